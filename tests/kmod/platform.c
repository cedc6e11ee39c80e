// SPDX-License-Identifier: GPL-2.0-only
/* Platform devices and drivers that come and go, and one driver whose probe fails. */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "planted.h"

#define GOOD_DEVICES 3

static int good_probe(struct platform_device *device)
{
	return planted_manage(&device->dev);
}

static int bad_probe(struct platform_device *device)
{
	planted_manage_in_vain(&device->dev);
	return -EIO;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static void good_remove(struct platform_device *device)
{
	planted_manage_end(&device->dev);
}
#else
static int good_remove(struct platform_device *device)
{
	planted_manage_end(&device->dev);
	return 0;
}
#endif

static struct platform_driver good_driver = {
	.probe = good_probe,
	.remove = good_remove,
	.driver = { .name = "slabmon_good" },
};
static struct platform_driver bad_driver = {
	.probe = bad_probe,
	.driver = { .name = "slabmon_bad" },
};

static struct platform_device *devices[GOOD_DEVICES + 1];
static bool have_drivers;

static int run_drivers_remove(void)
{
	if (have_drivers) {
		platform_driver_unregister(&good_driver);
		platform_driver_unregister(&bad_driver);
	}
	have_drivers = false;
	return 0;
}

static int run_devices_remove(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		if (devices[i])
			platform_device_unregister(devices[i]);
		devices[i] = NULL;
	}
	return 0;
}

static int run_drivers_add(void)
{
	int error;

	if (have_drivers)
		return -EBUSY;
	error = platform_driver_register(&good_driver);
	if (error)
		return error;
	error = platform_driver_register(&bad_driver);
	if (error)
		platform_driver_unregister(&good_driver);
	have_drivers = !error;
	return error;
}

/* slabmon_good.0, .1, .2 and slabmon_bad.0; a driver that is there probes them at once. */
static int run_devices_add(void)
{
	unsigned int i;

	if (devices[0])
		return -EBUSY;
	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		struct platform_device *device =
			i < GOOD_DEVICES
				? platform_device_register_simple("slabmon_good", i, NULL, 0)
				: platform_device_register_simple("slabmon_bad", 0, NULL, 0);

		if (IS_ERR(device)) {
			run_devices_remove();
			return PTR_ERR(device);
		}
		devices[i] = device;
	}
	return 0;
}

void planted_platform_exit(void)
{
	run_drivers_remove();
	run_devices_remove();
}

const struct planted_scenario planted_platform[] = {
	{ "devices_add", run_devices_add },
	{ "drivers_add", run_drivers_add },
	{ "drivers_remove", run_drivers_remove },
	{ "devices_remove", run_devices_remove },
	{},
};
