// SPDX-License-Identifier: GPL-2.0-only
/* Every managed resource of every device of the machine, read under the kernel's own locks. */
#include <linux/device.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "planted.h"

struct line_context {
	struct seq_file *out;
	struct device *dev;
};

static const char *subsystem(const struct device *dev)
{
	if (dev->bus)
		return dev->bus->name;
	return dev->class ? dev->class->name : "-";
}

static void print_node(const struct planted_node *node, void *data)
{
	struct line_context *line = data;
	struct device *dev = line->dev;

	seq_printf(line->out, "%s\t%s\t%s\t", subsystem(dev), dev_name(dev),
		   dev->driver ? dev->driver->name : "-");
	if (node->name)
		seq_printf(line->out, "%s\t", node->name);
	else
		seq_printf(line->out, "%ps\t", node->release);
	if (node->size < 0)
		seq_puts(line->out, "-\t-\n");
	else
		seq_printf(line->out, "%zd\t%zu\n", node->size, node->slab);
}

/*
 * The kset of all devices, from one that is always there. Its list also holds
 * nothing else: class directories and the like are in other ksets.
 */
static struct kset *all_devices(void)
{
	return platform_bus.kobj.kset;
}

/* References to all registered devices: list_lock must not be held while a device is locked. */
static struct device **get_devices(unsigned int *count)
{
	struct kset *kset = all_devices();
	struct device **devices;
	struct kobject *kobject;
	unsigned int room = 0;

	spin_lock(&kset->list_lock);
	list_for_each_entry(kobject, &kset->list, entry)
		room++;
	spin_unlock(&kset->list_lock);
	room += room / 8 + 16; /* some may appear meanwhile */
	devices = kvcalloc(room, sizeof(*devices), GFP_KERNEL);
	if (!devices)
		return NULL;

	*count = 0;
	spin_lock(&kset->list_lock);
	list_for_each_entry(kobject, &kset->list, entry) {
		if (kobject->ktype != platform_bus.kobj.ktype || *count == room)
			continue;
		/* One whose last reference is gone waits for this lock to leave the list. */
		if (kobject_get_unless_zero(kobject))
			devices[(*count)++] = container_of(kobject, struct device, kobj);
	}
	spin_unlock(&kset->list_lock);
	return devices;
}

/* Lines: subsystem, device, driver, release function, size, slab bytes; separated by tabs. */
int planted_walk_show(struct seq_file *out, void *unused)
{
	unsigned int i, count;
	struct device **devices = get_devices(&count);

	if (!devices)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		struct line_context line = { out, devices[i] };

		/* Keeps the driver, and what it does to the list in probe and remove, still. */
		device_lock(devices[i]);
		planted_nodes(devices[i], print_node, &line);
		device_unlock(devices[i]);
		put_device(devices[i]);
	}
	kvfree(devices);
	return 0;
}
