// SPDX-License-Identifier: GPL-2.0-only
/* Frees after a grace period, which reach the allocator without an event. */
#include <linux/rcupdate.h>

#include "planted.h"

struct deferred {
	u64 before[3]; /* so that the head is not at offset 0 */
	struct rcu_head rcu;
	char payload[79];
};

static void by_kfree_rcu(const struct planted_how *how, void **objects, unsigned int count)
{
	while (count--) {
		struct deferred *object = objects[count];

		kfree_rcu(object, rcu);
	}
}

static void by_headless(const struct planted_how *how, void **objects, unsigned int count)
{
	while (count--) {
		struct deferred *object = objects[count];

#ifdef kvfree_rcu_mightsleep /* the name since 6.1 */
		kvfree_rcu_mightsleep(object);
#else
		kvfree_rcu(object);
#endif
	}
}

static planted_site void *planted_kfree_rcu(void)
{
	void *object = kmalloc(sizeof(struct deferred), GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_kvfree_rcu(void)
{
	void *object = kmalloc(sizeof(struct deferred), GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how with_head = {
	.site = "planted_kfree_rcu",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "kfree_rcu",
	.release = by_kfree_rcu,
};
static const struct planted_how headless = {
	.site = "planted_kvfree_rcu",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "kvfree_rcu_headless",
	.release = by_headless,
};

static int run_rcu(void)
{
	unsigned int n;

	for (n = 0; n < 307; n++)
		planted_take(&with_head, planted_kfree_rcu(), sizeof(struct deferred));
	for (n = 0; n < 211; n++)
		planted_take(&headless, planted_kvfree_rcu(), sizeof(struct deferred));
	planted_drop(&with_head, 151);
	planted_drop(&headless, 103);
	return 0;
}

/*
 * The same from one of the module's caches. Before 6.12 kmem_cache_destroy() does not
 * wait for such frees, and nothing exported does: unloading would complain.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
static planted_site void *planted_cache_rcu(void)
{
	void *object = kmem_cache_alloc(planted_ctor_cache, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how cache_rcu = {
	.site = "planted_cache_rcu",
	.gfp = "kernel",
	.alloc = "kmem_cache_alloc",
	.free = "kfree_rcu",
	.release = by_kfree_rcu,
};

static int run_cache_rcu(void)
{
	unsigned int n;

	for (n = 0; n < 109; n++)
		planted_take(&cache_rcu, planted_cache_rcu(), kmem_cache_size(planted_ctor_cache));
	planted_drop(&cache_rcu, 61);
	return 0;
}
#endif

const struct planted_scenario planted_deferred[] = {
	{ "rcu", run_rcu },
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	{ "cache_rcu", run_cache_rcu },
#endif
	{},
};
