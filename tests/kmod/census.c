// SPDX-License-Identifier: GPL-2.0-only
/* For censuses: objects charged to a memory cgroup, and with known content. */
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "planted.h"

#define CHARGED_SIZE 344
#define CHARGED_KMALLOC 1500
#define CHARGED_LARGE (3 * PAGE_SIZE)

static struct kmem_cache *charged_cache;

static void construct(void *object)
{
	memset(object, 0, CHARGED_SIZE);
}

static planted_site void *planted_charged_cache(void)
{
	void *object = kmem_cache_alloc(charged_cache, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_charged_kmalloc(void)
{
	void *object = kmalloc(CHARGED_KMALLOC, GFP_KERNEL_ACCOUNT);

	planted_keep(object);
	return object;
}

static planted_site void *planted_charged_large(void)
{
	void *object = kmalloc(CHARGED_LARGE, GFP_KERNEL_ACCOUNT);

	planted_keep(object);
	return object;
}

static const struct planted_how charged_by_cache = {
	.site = "planted_charged_cache",
	.gfp = "kernel",
	.alloc = "kmem_cache_alloc",
	.free = "kmem_cache_free",
	.release = planted_by_cache,
	.cache = &charged_cache,
};
static const struct planted_how charged_by_kmalloc =
	PLANTED_KMALLOC(planted_charged_kmalloc, "kernel");
static const struct planted_how charged_large = PLANTED_KMALLOC(planted_charged_large, "kernel");

/* The caller's memory cgroup is charged, each time for another prime number of objects. */
static int run_charged(void)
{
	static const unsigned int counts[] = { 2, 3, 5, 7, 11, 13, 101, 211 };
	static unsigned int round;
	unsigned int n, count = counts[round++ % ARRAY_SIZE(counts)];

	for (n = 0; n < count; n++) {
		planted_take(&charged_by_cache, planted_charged_cache(), CHARGED_SIZE);
		planted_take(&charged_by_kmalloc, planted_charged_kmalloc(), CHARGED_KMALLOC);
	}
	for (n = 0; n < 3; n++)
		planted_take(&charged_large, planted_charged_large(), CHARGED_LARGE);
	return 0;
}

static void *fill(void *object, size_t size)
{
	static const char marker[] = "slabmon-planted-marker:";
	size_t at;

	for (at = 0; object && at + sizeof(marker) <= size; at += sizeof(marker) - 1)
		memcpy(object + at, marker, sizeof(marker) - 1);
	return object;
}

static planted_site void *planted_marked(size_t size)
{
	void *object = kmalloc(size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how marked = PLANTED_KMALLOC(planted_marked, "kernel");

static int run_marked(void)
{
	static const size_t sizes[] = { 64, 256, 1000, 4000, 30000 };
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		for (n = 0; n < PLANTED_ALLOCS; n++)
			planted_take(&marked, fill(planted_marked(sizes[i]), sizes[i]), sizes[i]);
	return 0;
}

int planted_census_init(void)
{
	/* The constructor keeps it from being merged. */
	charged_cache = kmem_cache_create("slabmon_planted_charged", CHARGED_SIZE, 0, SLAB_ACCOUNT,
					  construct);
	return charged_cache ? 0 : -ENOMEM;
}

void planted_census_exit(void)
{
	kmem_cache_destroy(charged_cache);
}

const struct planted_scenario planted_census[] = {
	{ "charged", run_charged },
	{ "marked", run_marked },
	{},
};
