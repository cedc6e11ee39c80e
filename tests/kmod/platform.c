// SPDX-License-Identifier: GPL-2.0-only
/* Platform devices and drivers that come and go, and one driver whose probe fails. */
#include <linux/device.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>

#include "planted.h"

#define GOOD_DEVICES 3
#define PROBE_OBJECTS 7
#define PROBE_BYTES 333
#define USED_OBJECTS 31
#define USED_BYTES 2999

/* What drivers allocate for a device without the driver core's knowledge, when they probe it. */
static planted_site void *planted_probe_kmalloc(size_t size)
{
	void *object = kmalloc(size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

/* And when it is used: the caller keeps the device meanwhile. */
static planted_site void *planted_used_kmalloc(size_t size)
{
	void *object = kmalloc(size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how probe_how = {
	.site = "planted_probe_kmalloc",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "kfree",
	.lasting = true,
};
static const struct planted_how used_how = PLANTED_KMALLOC(planted_used_kmalloc, "kernel");

static void *probe_objects[GOOD_DEVICES][PROBE_OBJECTS];

static void probe_allocate(struct platform_device *device)
{
	unsigned int i;

	for (i = 0; i < PROBE_OBJECTS; i++) {
		void *object = planted_probe_kmalloc(PROBE_BYTES);

		planted_take(&probe_how, object, PROBE_BYTES);
		probe_objects[device->id][i] = object;
	}
}

static void probe_free(struct platform_device *device)
{
	unsigned int i;

	for (i = 0; i < PROBE_OBJECTS; i++) {
		planted_forget(&probe_how, probe_objects[device->id][i]);
		kfree(probe_objects[device->id][i]);
	}
}

static int good_probe(struct platform_device *device)
{
	int error = planted_manage(&device->dev);

	if (!error)
		probe_allocate(device);
	return error;
}

static int bad_probe(struct platform_device *device)
{
	planted_manage_in_vain(&device->dev);
	return -EIO;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static void good_remove(struct platform_device *device)
{
	probe_free(device);
	planted_manage_end(&device->dev);
}
#else
static int good_remove(struct platform_device *device)
{
	probe_free(device);
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

/* Uses some devices, each as often as the others, one after the other. */
static planted_site int use_devices(unsigned int first, unsigned int count)
{
	unsigned int i;

	if (!devices[0])
		return -ENODEV;
	for (i = 0; i < count * USED_OBJECTS; i++) {
		struct platform_device *device = devices[first + i % count];
		void *object = planted_used_kmalloc(USED_BYTES);

		planted_take(&used_how, object, USED_BYTES);
		get_device(&device->dev);
		put_device(&device->dev);
	}
	return 0;
}

static int run_device_use(void)
{
	return use_devices(1, 1);
}

static int run_devices_use(void)
{
	return use_devices(0, GOOD_DEVICES);
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
	{ "device_use", run_device_use },
	{ "devices_use", run_devices_use },
	{},
};
