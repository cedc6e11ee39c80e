// SPDX-License-Identifier: GPL-2.0-only
/* Every kind of managed memory, as a driver's probe would use it. */
#include <linux/device.h>
#include <linux/err.h>

#include "planted.h"

/* Names and sizes under which devres_log and devres_node know the helpers. */
#define ZALLOC "devm_kzalloc_release"
#define REALLOC "devm_krealloc_release"
#ifdef devm_add_action /* a macro that passes the action's name on: 6.12, not 6.1 */
#define ACTION "planted_action"
#else
#define ACTION "devm_action_release"
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
#define ACTION_SIZE (6 * sizeof(void *) + 2 * sizeof(void *)) /* the node is inside */
#else
#define ACTION_SIZE (2 * sizeof(void *))
#endif

static planted_site void *planted_devm_kzalloc(struct device *dev, size_t size)
{
	void *object = devm_kzalloc(dev, size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_devm_kmalloc(struct device *dev, size_t size)
{
	void *object = devm_kmalloc(dev, size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static void planted_release(struct device *dev, void *resource)
{
}

/* devres_alloc() turns its argument into the resource's name. */
static planted_site void *planted_devres_alloc(size_t size)
{
	void *object = devres_alloc(planted_release, size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_devm_kmemdup(struct device *dev, const void *from, size_t size)
{
	void *object = devm_kmemdup(dev, from, size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_devm_krealloc(struct device *dev, void *old, size_t size)
{
	void *object = devm_krealloc(dev, old, size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

/*
 * The driver core frees these, so "release" must not. requested_bytes is what
 * the driver asked for: the kmem event's figure has the header on top and, from
 * 6.2 on, is rounded up. devm_kmemdup, devm_add_action and groups have no site
 * here: whether they or their callers are the call site is up to the compiler.
 */
#define DEVM_HOW(function) \
	static const struct planted_how function##_how = { \
		.site = #function, \
		.gfp = "kernel", \
		.alloc = "devm", \
		.free = "kfree", \
		.lasting = true, \
	};

DEVM_HOW(planted_devm_kzalloc)
DEVM_HOW(planted_devm_kmalloc)
DEVM_HOW(planted_devm_krealloc)
DEVM_HOW(planted_devres_alloc)

/* Objects that each device holds; they leave the books when it is unbound. */
static struct {
	struct device *dev;
	const struct planted_how *how;
	void *object;
} owned[192];

static void *own(struct device *dev, const struct planted_how *how, void *object, size_t size)
{
	unsigned int i;

	planted_take(how, object, size);
	for (i = 0; i < ARRAY_SIZE(owned) && object; i++) {
		if (!owned[i].object) {
			owned[i].dev = dev;
			owned[i].how = how;
			owned[i].object = object;
			break;
		}
	}
	WARN_ON_ONCE(i == ARRAY_SIZE(owned));
	return object;
}

static void disown(struct device *dev, void *object)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(owned); i++) {
		if (owned[i].object && owned[i].dev == dev &&
		    (!object || owned[i].object == object)) {
			planted_forget(owned[i].how, owned[i].object);
			owned[i].object = NULL;
		}
	}
}

#define KZALLOC(dev, size) \
	own(dev, &planted_devm_kzalloc_how, planted_devm_kzalloc(dev, size), size)
#define KMALLOC(dev, size) \
	own(dev, &planted_devm_kmalloc_how, planted_devm_kmalloc(dev, size), size)

/* Before the driver core releases all that the device holds. */
void planted_manage_end(struct device *dev)
{
	planted_ledger_clear(dev);
	disown(dev, NULL);
}

static void planted_action(void *data)
{
}

static planted_site int planted_devm_add_action(struct device *dev)
{
	int error = devm_add_action(dev, planted_action, NULL);

	planted_keep(error);
	return error;
}

static int add_plain(struct device *dev)
{
	static const char text[] = "thirty-one bytes, as counted..";
	unsigned int n;

	for (n = 0; n < 7; n++) {
		if (!KZALLOC(dev, 101))
			return -ENOMEM;
		planted_ledger_add(dev, ZALLOC, 101);
	}
	for (n = 0; n < 5; n++) {
		if (!KMALLOC(dev, 1009))
			return -ENOMEM;
		planted_ledger_add(dev, ZALLOC, 1009);
	}
	for (n = 0; n < 3; n++) {
		if (!planted_devm_kmemdup(dev, text, sizeof(text)))
			return -ENOMEM;
		planted_ledger_add(dev, ZALLOC, sizeof(text));
	}
	return 0;
}

static int add_changing(struct device *dev)
{
	unsigned int n;

	for (n = 0; n < 3; n++) {
		void *small = KZALLOC(dev, 23), *big;

		if (!small)
			return -ENOMEM;
		big = planted_devm_krealloc(dev, small, 1511);
		if (!big)
			return -ENOMEM;
		disown(dev, small);
		own(dev, &planted_devm_krealloc_how, big, 1511);
		/* One entry that changes its name: REPLACE is neither ADD nor REM. */
		planted_ledger_add(dev, ZALLOC, 23);
		planted_ledger_remove(dev, ZALLOC, 23);
		planted_ledger_add(dev, REALLOC, 1511);
	}
	for (n = 0; n < 11; n++) {
		void *brief = KMALLOC(dev, 67);

		if (!brief)
			return -ENOMEM;
		planted_ledger_add(dev, ZALLOC, 67);
		disown(dev, brief);
		devm_kfree(dev, brief);
		planted_ledger_remove(dev, ZALLOC, 67);
	}
	return 0;
}

static int add_others(struct device *dev)
{
	unsigned int n;

	for (n = 0; n < 3; n++) {
		int error = planted_devm_add_action(dev);

		if (error)
			return error;
		planted_ledger_add(dev, ACTION, ACTION_SIZE);
	}
	for (n = 0; n < 2; n++) {
		void *resource = own(dev, &planted_devres_alloc_how, planted_devres_alloc(19), 19);

		if (!resource)
			return -ENOMEM;
		devres_add(dev, resource);
		planted_ledger_add(dev, "planted_release", 19);
	}
	return 0;
}

/* One group that stays, and one that is released at once with what is in it. */
static int add_groups(struct device *dev)
{
	void *group = devres_open_group(dev, NULL, GFP_KERNEL), *brief;

	if (!group || !KZALLOC(dev, 61) || !KZALLOC(dev, 61))
		return -ENOMEM;
	devres_close_group(dev, group);
	planted_ledger_add(dev, "grp<", 0);
	planted_ledger_add(dev, ZALLOC, 61);
	planted_ledger_add(dev, ZALLOC, 61);
	planted_ledger_add(dev, "grp>", 0);

	group = devres_open_group(dev, NULL, GFP_KERNEL);
	brief = KZALLOC(dev, 59);
	if (!group || !brief)
		return -ENOMEM;
	devres_close_group(dev, group);
	planted_ledger_add(dev, "grp<", 0);
	planted_ledger_add(dev, ZALLOC, 59);
	planted_ledger_add(dev, "grp>", 0);
	disown(dev, brief);
	devres_release_group(dev, group);
	planted_ledger_remove(dev, "grp<", 0);
	planted_ledger_remove(dev, ZALLOC, 59);
	planted_ledger_remove(dev, "grp>", 0);
	return 0;
}

/* All of the above; a device that fails here is left to the driver core. */
int planted_manage(struct device *dev)
{
	int error = add_plain(dev) ?: add_changing(dev) ?: add_others(dev) ?: add_groups(dev);

	if (error)
		planted_manage_end(dev);
	return error;
}

/* Half of a probe that will fail: the driver core releases these 13. */
void planted_manage_in_vain(struct device *dev)
{
	unsigned int n;

	for (n = 0; n < 13 && KZALLOC(dev, 127); n++)
		planted_ledger_add(dev, ZALLOC, 127);
	planted_manage_end(dev);
}
