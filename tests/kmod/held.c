// SPDX-License-Identifier: GPL-2.0-only
/*
 * What drivers allocate by plain kmalloc() in probe and later, and only they know: a structure of
 * their own, a ring of buffers, blocks of pages, a list, what two ports of a hub share; and what
 * others know too.
 * Nothing of it is in the records, which would refer to it.
 */
#include <linux/err.h>
#include <linux/list.h>
#include <linux/platform_device.h>
#include <linux/slab.h>

#include "planted.h"

#define PORTS 2
#define BUFFERS 61
#define BUFFER_SIZE 1500
#define ITEMS 97
#define MORE_ITEMS 53
#define ITEM_SIZE 150
#define SHARED 41
#define SHARED_SIZE 300
#define KNOWN 23
#define KNOWN_SIZE 600
#define LARGE 3
#define LARGE_SIZE 20000 /* a block of 8 pages */

struct held_item {
	struct list_head list;
	u8 rest[ITEM_SIZE - sizeof(struct list_head)];
};

struct held_shared {
	struct held_shared *next;
	u8 rest[SHARED_SIZE - sizeof(struct held_shared *)];
};

struct held_private {
	struct list_head items;
	void **ring;
	struct held_shared *shared;
	void *known[KNOWN];
	void *large[LARGE];
};

static struct platform_device *hub, *ports[PORTS];
static u64 hidden_shared =
	~0ull; /* the first one's address, inverted: only the ports refer to it */
static void *known[KNOWN]; /* the module's own memory: these are not the devices' alone */
static bool have_driver;

static int add_items(struct held_private *private, unsigned int count)
{
	while (count--) {
		struct held_item *item = kzalloc(sizeof(*item), GFP_KERNEL);

		if (!item)
			return -ENOMEM;
		list_add_tail(&item->list, &private->items);
	}
	return 0;
}

static int add_large(struct held_private *private)
{
	unsigned int n;

	for (n = 0; n < LARGE; n++) {
		private->large[n] = kzalloc(LARGE_SIZE, GFP_KERNEL);
		if (!private->large[n])
			return -ENOMEM;
	}
	return 0;
}

static void free_private(struct held_private *private)
{
	struct held_item *item, *next;
	unsigned int n;

	list_for_each_entry_safe(item, next, &private->items, list) kfree(item);
	for (n = 0; n < BUFFERS && private->ring; n++)
		kfree(private->ring[n]);
	kfree(private->ring);
	for (n = 0; n < LARGE; n++)
		kfree(private->large[n]);
	kfree(private);
}

static int held_probe(struct platform_device *device)
{
	struct held_private *private = kzalloc(sizeof(*private), GFP_KERNEL);
	unsigned int n;

	if (!private)
		return -ENOMEM;
	INIT_LIST_HEAD(&private->items);
	private->ring = kcalloc(BUFFERS, sizeof(void *), GFP_KERNEL);
	for (n = 0; n < BUFFERS && private->ring; n++) {
		private->ring[n] = kzalloc(BUFFER_SIZE, GFP_KERNEL);
		if (!private->ring[n])
			break;
	}
	if (n < BUFFERS || add_large(private) || add_items(private, ITEMS)) {
		free_private(private);
		return -ENOMEM;
	}
	private->shared = (void *)(uintptr_t)~hidden_shared;
	memcpy(private->known, known, sizeof(known));
	platform_set_drvdata(device, private);
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static void held_remove(struct platform_device *device)
{
	free_private(platform_get_drvdata(device));
}
#else
static int held_remove(struct platform_device *device)
{
	free_private(platform_get_drvdata(device));
	return 0;
}
#endif

static struct platform_driver held_driver = {
	.probe = held_probe,
	.remove = held_remove,
	.driver = { .name = "slabmon_port" },
};

void planted_held_exit(void)
{
	struct held_shared *object, *next;
	unsigned int n;

	if (have_driver)
		platform_driver_unregister(&held_driver);
	have_driver = false;
	for (n = 0; n < PORTS; n++) {
		platform_device_unregister(ports[n]);
		ports[n] = NULL;
	}
	platform_device_unregister(hub);
	hub = NULL;
	for (object = (void *)(uintptr_t)~hidden_shared; object; object = next) {
		next = object->next;
		kfree(object);
	}
	hidden_shared = ~0ull;
	for (n = 0; n < KNOWN; n++) {
		kfree(known[n]);
		known[n] = NULL;
	}
}

static int make_common(void)
{
	struct held_shared *object;
	unsigned int n;

	for (n = 0; n < SHARED; n++) {
		object = kzalloc(sizeof(*object), GFP_KERNEL);
		if (!object)
			return -ENOMEM;
		object->next = (void *)(uintptr_t)~hidden_shared;
		hidden_shared = ~(u64)(uintptr_t)object;
	}
	for (n = 0; n < KNOWN; n++) {
		known[n] = kzalloc(KNOWN_SIZE, GFP_KERNEL);
		if (!known[n])
			return -ENOMEM;
	}
	return 0;
}

static struct platform_device *add_port(int number)
{
	struct platform_device_info info = {
		.parent = &hub->dev,
		.name = "slabmon_port",
		.id = number,
	};

	return platform_device_register_full(&info);
}

static int add_devices(void)
{
	struct platform_device *device;
	unsigned int n;

	device = platform_device_register_simple("slabmon_hub", 0, NULL, 0);
	if (IS_ERR(device))
		return PTR_ERR(device);
	hub = device;
	for (n = 0; n < PORTS; n++) {
		device = add_port(n);
		if (IS_ERR(device))
			return PTR_ERR(device);
		ports[n] = device;
	}
	return 0;
}

static planted_site int add(void)
{
	int error = make_common();

	if (!error)
		error = platform_driver_register(&held_driver);
	if (error)
		return error;
	have_driver = true;
	return add_devices();
}

static int run_held_add(void)
{
	int error;

	if (hub || have_driver)
		return -EBUSY;
	error = add();
	if (error)
		planted_held_exit();
	planted_scrub_stack(8);
	return error;
}

/* As an interrupt or a system call would, at run time. */
static int run_held_more(void)
{
	int error;

	if (!hub)
		return -ENODEV;
	error = add_items(platform_get_drvdata(ports[0]), MORE_ITEMS);
	planted_scrub_stack(8);
	return error;
}

static int run_held_remove(void)
{
	planted_held_exit();
	return 0;
}

const struct planted_scenario planted_held[] = {
	{ "held_add", run_held_add },
	{ "held_more", run_held_more },
	{ "held_remove", run_held_remove },
	{},
};
