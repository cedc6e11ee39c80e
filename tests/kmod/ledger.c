// SPDX-License-Identifier: GPL-2.0-only
/* The managed resources that each planted device must hold, kept by the drivers themselves. */
#include <linux/device.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>

#include "planted.h"

#define MAX_ENTRIES 64

struct entry {
	char device[32];
	const char *driver;
	const char *release;
	u64 resources, bytes, added, removed;
};

static struct entry entries[MAX_ENTRIES];
static unsigned int nr_entries;
static u64 overflows;
static DEFINE_MUTEX(lock);

static struct entry *find(struct device *dev, const char *release)
{
	struct entry *entry;

	for (entry = entries; entry < entries + nr_entries; entry++)
		if (!strcmp(entry->device, dev_name(dev)) && !strcmp(entry->release, release))
			return entry;
	if (nr_entries == MAX_ENTRIES) {
		overflows++;
		return NULL;
	}
	entry = &entries[nr_entries++];
	snprintf(entry->device, sizeof(entry->device), "%s", dev_name(dev));
	entry->driver = dev->driver ? dev->driver->name : "-";
	entry->release = release;
	return entry;
}

void planted_ledger_add(struct device *dev, const char *release, size_t size)
{
	struct entry *entry;

	mutex_lock(&lock);
	entry = find(dev, release);
	if (entry) {
		entry->resources++;
		entry->bytes += size;
		entry->added++;
	}
	mutex_unlock(&lock);
}

void planted_ledger_remove(struct device *dev, const char *release, size_t size)
{
	struct entry *entry;

	mutex_lock(&lock);
	entry = find(dev, release);
	if (entry) {
		entry->resources--;
		entry->bytes -= size;
		entry->removed++;
	}
	mutex_unlock(&lock);
}

/* The driver core is about to release all that the device holds. */
void planted_ledger_clear(struct device *dev)
{
	struct entry *entry;

	mutex_lock(&lock);
	for (entry = entries; entry < entries + nr_entries; entry++) {
		if (strcmp(entry->device, dev_name(dev)))
			continue;
		entry->removed += entry->resources;
		entry->resources = 0;
		entry->bytes = 0;
	}
	mutex_unlock(&lock);
}

/* Count additions and removals anew; what is held stays. */
void planted_ledger_reset(void)
{
	struct entry *entry;

	mutex_lock(&lock);
	for (entry = entries; entry < entries + nr_entries; entry++) {
		entry->added = 0;
		entry->removed = 0;
	}
	mutex_unlock(&lock);
}

void planted_ledger_show(struct seq_file *out)
{
	unsigned int i;

	mutex_lock(&lock);
	for (i = 0; i < nr_entries; i++) {
		const struct entry *e = &entries[i];

		seq_printf(out, "devres.%u.bus platform\n", i);
		seq_printf(out, "devres.%u.device %s\n", i, e->device);
		seq_printf(out, "devres.%u.driver %s\n", i, e->driver);
		seq_printf(out, "devres.%u.release %s\n", i, e->release);
		seq_printf(out, "devres.%u.resources %llu\n", i, e->resources);
		seq_printf(out, "devres.%u.bytes %llu\n", i, e->bytes);
		seq_printf(out, "devres.%u.added %llu\n", i, e->added);
		seq_printf(out, "devres.%u.removed %llu\n", i, e->removed);
	}
	seq_printf(out, "devres %u\n", nr_entries);
	seq_printf(out, "devres_overflows %llu\n", overflows);
	mutex_unlock(&lock);
}
