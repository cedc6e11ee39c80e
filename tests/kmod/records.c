// SPDX-License-Identifier: GPL-2.0-only
/* Allocations and frees by site and cache, and the objects still held. */
#include <linux/seq_file.h>
#include <linux/spinlock.h>

#include "planted.h"

#define MAX_RECORDS 128
#define MAX_HELD 16384

struct record {
	const struct planted_how *how;
	const char *cache;
	u64 allocs, frees, failed;
	u64 requested, allocated, freed;
	u64 before_objects, before_bytes; /* held when counting began */
};

struct held {
	struct record *record;
	void *object;
	size_t size;
};

static struct record records[MAX_RECORDS];
static unsigned int nr_records;
static struct held held[MAX_HELD];
static unsigned int nr_held;
/* Something did not fit: every figure is suspect, and says so. */
static u64 overflows;
/* Raw and with interrupts off: objects are also taken in hard interrupts. */
static DEFINE_RAW_SPINLOCK(lock);

static struct record *find(const struct planted_how *how, const char *cache)
{
	struct record *record;

	for (record = records; record < records + nr_records; record++)
		if (record->how == how && !strcmp(record->cache, cache))
			return record;
	if (nr_records == MAX_RECORDS) {
		overflows++;
		return NULL;
	}
	record = &records[nr_records++];
	memset(record, 0, sizeof(*record));
	record->how = how;
	record->cache = cache;
	return record;
}

static void look(const struct planted_how *how, void *object, size_t requested,
		 struct planted_slab *slab)
{
	if (how->pages)
		*slab = (struct planted_slab){ "pages", requested };
	else
		planted_look(object, requested, slab);
}

/* Account for the result of one allocation and hold it for a later free. */
void planted_take(const struct planted_how *how, void *object, size_t requested)
{
	struct planted_slab slab = {};
	struct record *record;
	unsigned long flags;

	look(how, object, requested, &slab);
	raw_spin_lock_irqsave(&lock, flags);
	record = find(how, slab.cache);
	if (record && !object) {
		record->failed++;
	} else if (record) {
		record->allocs++;
		record->requested += requested;
		record->allocated += slab.size;
		if (nr_held < MAX_HELD)
			held[nr_held++] = (struct held){ record, object, slab.size };
		else
			overflows++;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
}

/* Account for allocations like @example whose frees the caller did itself. */
void planted_add(const struct planted_how *how, void *example, size_t requested,
		 unsigned int allocs, unsigned int frees)
{
	struct planted_slab slab = {};
	struct record *record;
	unsigned long flags;

	look(how, example, requested, &slab);
	raw_spin_lock_irqsave(&lock, flags);
	record = find(how, slab.cache);
	if (record) {
		record->allocs += allocs;
		record->requested += (u64)allocs * requested;
		record->allocated += (u64)allocs * slab.size;
		record->frees += frees;
		record->freed += (u64)frees * slab.size;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
}

static void account_free(struct held *entry)
{
	entry->record->frees++;
	entry->record->freed += entry->size;
	*entry = held[--nr_held];
}

/* The object is gone (or changed hands): free it in the books only. */
void planted_forget(const struct planted_how *how, void *object)
{
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&lock, flags);
	for (i = 0; i < nr_held; i++) {
		if (held[i].record->how == how && held[i].object == object) {
			account_free(&held[i]);
			break;
		}
	}
	raw_spin_unlock_irqrestore(&lock, flags);
}

/* Free up to @count held objects of a kind, in batches for kinds that free in bulk. */
void planted_drop(const struct planted_how *how, unsigned int count)
{
	void *batch[16];
	unsigned int i, got;
	unsigned long flags;

	do {
		got = 0;
		raw_spin_lock_irqsave(&lock, flags);
		for (i = nr_held; i-- > 0 && got < ARRAY_SIZE(batch) && got < count;) {
			if (held[i].record->how != how)
				continue;
			batch[got++] = held[i].object;
			account_free(&held[i]);
		}
		raw_spin_unlock_irqrestore(&lock, flags);
		if (got)
			how->release(how, batch, got);
		count -= got;
	} while (got && count);
}

void planted_drop_all(bool lasting)
{
	unsigned int i;

	for (i = 0; i < nr_records; i++)
		if (records[i].how->release && (lasting || !records[i].how->lasting))
			planted_drop(records[i].how, UINT_MAX);
}

static u64 live_objects(const struct record *record)
{
	return record->before_objects + record->allocs - record->frees;
}

static u64 live_bytes(const struct record *record)
{
	return record->before_bytes + record->allocated - record->freed;
}

/* Restart counting: scenarios' objects are freed, lasting ones become "before". */
void planted_reset(void)
{
	unsigned int i;

	planted_drop_all(false);
	for (i = 0; i < nr_records; i++) {
		struct record *r = &records[i];

		*r = (struct record){
			.how = r->how,
			.cache = r->cache,
			.before_objects = live_objects(r),
			.before_bytes = live_bytes(r),
		};
	}
	overflows = 0;
}

void planted_show_records(struct seq_file *out)
{
	unsigned int i, shown = 0;

	for (i = 0; i < nr_records; i++) {
		const struct record *r = &records[i];

		if (!r->allocs && !r->failed && !live_objects(r))
			continue;
		seq_printf(out, "site.%u.symbol %s\n", shown, r->how->site);
		seq_printf(out, "site.%u.cache %s\n", shown, r->cache);
		seq_printf(out, "site.%u.gfp %s\n", shown, r->how->gfp);
		seq_printf(out, "site.%u.alloc_path %s\n", shown, r->how->alloc);
		seq_printf(out, "site.%u.free_path %s\n", shown, r->how->free);
		seq_printf(out, "site.%u.allocs %llu\n", shown, r->allocs);
		seq_printf(out, "site.%u.frees %llu\n", shown, r->frees);
		seq_printf(out, "site.%u.failed %llu\n", shown, r->failed);
		seq_printf(out, "site.%u.requested_bytes %llu\n", shown, r->requested);
		seq_printf(out, "site.%u.allocated_bytes %llu\n", shown, r->allocated);
		seq_printf(out, "site.%u.freed_bytes %llu\n", shown, r->freed);
		seq_printf(out, "site.%u.before_objects %llu\n", shown, r->before_objects);
		seq_printf(out, "site.%u.before_bytes %llu\n", shown, r->before_bytes);
		seq_printf(out, "site.%u.live_objects %llu\n", shown, live_objects(r));
		seq_printf(out, "site.%u.live_bytes %llu\n", shown, live_bytes(r));
		shown++;
	}
	seq_printf(out, "sites %u\n", shown);
	seq_printf(out, "overflows %llu\n", overflows);
}

void planted_by_kfree(const struct planted_how *how, void **objects, unsigned int count)
{
	while (count--)
		kfree(objects[count]);
}

void planted_by_cache(const struct planted_how *how, void **objects, unsigned int count)
{
	while (count--)
		kmem_cache_free(*how->cache, objects[count]);
}
