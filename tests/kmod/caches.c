// SPDX-License-Identifier: GPL-2.0-only
/* The module's caches: one that cannot be merged, two that can, and bulk calls on them. */
#include <linux/moduleparam.h>

#include "planted.h"

/* Unlike any size the kernel itself uses, so that only each other can be merged. */
#define MERGEABLE_SIZE 1672
#define BULK 61

/* The size of objects of slabmon_planted_ctor. */
static unsigned int ctor_size = 328;
module_param(ctor_size, uint, 0444);

struct kmem_cache *planted_ctor_cache;
static struct kmem_cache *merge_a, *merge_b;

static void construct(void *object)
{
	memset(object, 0x5a, ctor_size);
}

#define CACHE_HOW(function, which) \
	{ .site = #function, \
	  .gfp = "kernel", \
	  .alloc = "kmem_cache_alloc", \
	  .free = "kmem_cache_free", \
	  .release = planted_by_cache, \
	  .cache = which }

#define CACHE_SITE(name, which) \
	static planted_site void *planted_##name(void) \
	{ \
		void *object = kmem_cache_alloc(which, GFP_KERNEL); \
\
		planted_keep(object); \
		return object; \
	}

CACHE_SITE(cache_ctor, planted_ctor_cache)
CACHE_SITE(cache_merge_a, merge_a)
CACHE_SITE(cache_merge_b, merge_b)
CACHE_SITE(cache_by_kfree, planted_ctor_cache)
CACHE_SITE(cache_bulk_free, planted_ctor_cache)

static const struct planted_how ctor = CACHE_HOW(planted_cache_ctor, &planted_ctor_cache);
static const struct planted_how first = CACHE_HOW(planted_cache_merge_a, &merge_a);
static const struct planted_how second = CACHE_HOW(planted_cache_merge_b, &merge_b);

static int run_caches(void)
{
	unsigned int n;

	for (n = 0; n < PLANTED_ALLOCS; n++)
		planted_take(&ctor, planted_cache_ctor(), ctor_size);
	for (n = 0; n < 67; n++)
		planted_take(&first, planted_cache_merge_a(), MERGEABLE_SIZE);
	for (n = 0; n < 71; n++)
		planted_take(&second, planted_cache_merge_b(), MERGEABLE_SIZE);
	planted_drop(&ctor, PLANTED_FREES);
	planted_drop(&first, 23);
	planted_drop(&second, 29);
	return 0;
}

/* SLUB finds the cache from the object, so kfree of cache memory is legal on all of ours. */
static const struct planted_how by_kfree = {
	.site = "planted_cache_by_kfree",
	.gfp = "kernel",
	.alloc = "kmem_cache_alloc",
	.free = "kfree",
	.release = planted_by_kfree,
};

static int run_cache_kfree(void)
{
	unsigned int n;

	for (n = 0; n < 83; n++)
		planted_take(&by_kfree, planted_cache_by_kfree(), ctor_size);
	planted_drop(&by_kfree, 37);
	return 0;
}

static planted_site int planted_bulk_alloc(void **objects)
{
	/* Returns a number up to 7.x, a bool since: zero is failure in both. */
	int got = kmem_cache_alloc_bulk(planted_ctor_cache, GFP_KERNEL, BULK, objects);

	planted_keep(got);
	return got;
}

static planted_site void *planted_kfree_bulk_one(void)
{
	void *object = kmalloc(47, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static void free_bulk(const struct planted_how *how, void **objects, unsigned int count)
{
	kmem_cache_free_bulk(planted_ctor_cache, count, objects);
}

static void bulk_kfree(const struct planted_how *how, void **objects, unsigned int count)
{
	kfree_bulk(count, objects);
}

static const struct planted_how bulk_alloc = {
	.site = "planted_bulk_alloc",
	.gfp = "kernel",
	.alloc = "kmem_cache_alloc_bulk",
	.free = "kmem_cache_free",
	.release = planted_by_cache,
	.cache = &planted_ctor_cache,
};
static const struct planted_how bulk_free = {
	.site = "planted_cache_bulk_free",
	.gfp = "kernel",
	.alloc = "kmem_cache_alloc",
	.free = "kmem_cache_free_bulk",
	.release = free_bulk,
};
static const struct planted_how kmalloc_bulk = {
	.site = "planted_kfree_bulk_one",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "kfree_bulk",
	.release = bulk_kfree,
};

static int run_bulk(void)
{
	static void *objects[BULK];
	unsigned int n;

	if (!planted_bulk_alloc(objects))
		return -ENOMEM;
	for (n = 0; n < BULK; n++)
		planted_take(&bulk_alloc, objects[n], ctor_size);
	for (n = 0; n < 59; n++) {
		planted_take(&bulk_free, planted_cache_bulk_free(), ctor_size);
		planted_take(&kmalloc_bulk, planted_kfree_bulk_one(), 47);
	}
	planted_drop(&bulk_alloc, 17);
	planted_drop(&bulk_free, 43);
	planted_drop(&kmalloc_bulk, 41);
	return 0;
}

static planted_site void *planted_churn(void)
{
	void *object = kmalloc(611, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how churn = PLANTED_KMALLOC(planted_churn, "kernel");

/* Much traffic, and nothing is kept: a leak detector must not report it. */
static int run_churn(void)
{
	unsigned int n;

	for (n = 0; n < 10007; n++) {
		void *object = planted_churn();

		if (!object)
			return -ENOMEM;
		planted_add(&churn, object, 611, 1, 1);
		kfree(object);
	}
	return 0;
}

int planted_caches_init(void)
{
	planted_ctor_cache = kmem_cache_create("slabmon_planted_ctor", ctor_size, 0, 0, construct);
	merge_a = kmem_cache_create("slabmon_planted_a", MERGEABLE_SIZE, 0, 0, NULL);
	merge_b = kmem_cache_create("slabmon_planted_b", MERGEABLE_SIZE, 0, 0, NULL);
	if (planted_ctor_cache && merge_a && merge_b)
		return 0;
	planted_caches_exit();
	return -ENOMEM;
}

void planted_caches_exit(void)
{
	kmem_cache_destroy(planted_ctor_cache);
	kmem_cache_destroy(merge_b);
	kmem_cache_destroy(merge_a);
}

const struct planted_scenario planted_caches[] = {
	{ "caches", run_caches },
	{ "cache_kfree", run_cache_kfree },
	{ "bulk", run_bulk },
	{ "churn", run_churn },
	{},
};
