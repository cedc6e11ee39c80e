// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is in no slab, by kind: write "hold" or "drop" to `memory`, read from
 * it how many bytes of each kind are held. Nothing here is counted in `expected`.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <net/net_namespace.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#include <net/page_pool/helpers.h>
#else
#include <net/page_pool.h>
#endif

#include "planted.h"

#define AREAS 61
#define AREA_PAGES 53
#define SINGLES 4001
#define COMPOUNDS 211
#define COMPOUND_ORDER 3
#define PLAINS 307 /* without __GFP_COMP: the pages behind the first have no reference */
#define PLAIN_ORDER 2
#define PER_CPU 199
#define PER_CPU_BYTES (32 << 10) /* the most that the allocator gives: PCPU_MIN_UNIT_SIZE */
#define POOLED 499

static void *areas[AREAS];
static struct page *singles[SINGLES], *compounds[COMPOUNDS], *plains[PLAINS];
static void __percpu *per_cpu_objects[PER_CPU];
static struct page_pool *pool;
static struct page *pooled[POOLED];

static planted_site void *planted_vmalloc(void)
{
	void *area = vmalloc(AREA_PAGES * PAGE_SIZE);

	planted_keep(area);
	return area;
}

static void hold_pages(struct page **pages, unsigned int count, gfp_t flags, unsigned int order)
{
	unsigned int n;

	for (n = 0; n < count; n++)
		pages[n] = alloc_pages(flags, order);
}

static void hold_pool(void)
{
	struct page_pool_params parameters = {
		.pool_size = POOLED,
		.nid = NUMA_NO_NODE,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
		.netdev = init_net.loopback_dev,
#endif
	};
	unsigned int n;

	pool = page_pool_create(&parameters);
	if (IS_ERR(pool))
		pool = NULL;
	for (n = 0; pool && n < POOLED; n++)
		pooled[n] = page_pool_alloc_pages(pool, GFP_KERNEL);
}

static void hold(void)
{
	unsigned int n;

	for (n = 0; n < AREAS; n++)
		areas[n] = planted_vmalloc();
	hold_pages(singles, SINGLES, GFP_KERNEL, 0);
	hold_pages(compounds, COMPOUNDS, GFP_KERNEL | __GFP_COMP, COMPOUND_ORDER);
	hold_pages(plains, PLAINS, GFP_KERNEL, PLAIN_ORDER);
	for (n = 0; n < PER_CPU; n++)
		per_cpu_objects[n] = __alloc_percpu(PER_CPU_BYTES, PAGE_SIZE);
	hold_pool();
}

static void drop_pages(struct page **pages, unsigned int count, unsigned int order)
{
	unsigned int n;

	for (n = 0; n < count; n++) {
		if (pages[n])
			__free_pages(pages[n], order);
		pages[n] = NULL;
	}
}

void planted_memory_drop(void)
{
	unsigned int n;

	for (n = 0; n < AREAS; n++) {
		vfree(areas[n]);
		areas[n] = NULL;
	}
	drop_pages(singles, SINGLES, 0);
	drop_pages(compounds, COMPOUNDS, COMPOUND_ORDER);
	drop_pages(plains, PLAINS, PLAIN_ORDER);
	for (n = 0; n < PER_CPU; n++) {
		free_percpu(per_cpu_objects[n]);
		per_cpu_objects[n] = NULL;
	}
	for (n = 0; n < POOLED; n++) {
		if (pooled[n])
			page_pool_put_full_page(pool, pooled[n], false);
		pooled[n] = NULL;
	}
	if (pool)
		page_pool_destroy(pool);
	pool = NULL;
}

ssize_t planted_memory_write(struct file *file, const char __user *text, size_t length, loff_t *at)
{
	char name[8];

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, text, length))
		return -EFAULT;
	name[length] = 0;
	planted_memory_drop();
	if (!strcmp(strim(name), "hold"))
		hold();
	return length;
}

static unsigned long count_pages(struct page *const *pages, unsigned int count, unsigned int order)
{
	unsigned long sum = 0;
	unsigned int n;

	for (n = 0; n < count; n++)
		if (pages[n])
			sum += 1UL << order;
	return sum;
}

int planted_memory_show(struct seq_file *out, void *unused)
{
	unsigned long area_pages = 0, per_cpu_bytes = 0;
	unsigned int n;

	for (n = 0; n < AREAS; n++)
		area_pages += areas[n] ? AREA_PAGES : 0;
	for (n = 0; n < PER_CPU; n++)
		per_cpu_bytes += per_cpu_objects[n] ? PER_CPU_BYTES : 0;
	seq_printf(out, "vmalloc %lu\n", area_pages * PAGE_SIZE);
	seq_printf(out, "order0 %lu\n", count_pages(singles, SINGLES, 0) * PAGE_SIZE);
	seq_printf(out, "order3 %lu\n",
		   count_pages(compounds, COMPOUNDS, COMPOUND_ORDER) * PAGE_SIZE);
	seq_printf(out, "order2 %lu\n", count_pages(plains, PLAINS, PLAIN_ORDER) * PAGE_SIZE);
	seq_printf(out, "percpu %lu\n", per_cpu_bytes * num_possible_cpus());
	/* The pool takes pages in bulk, and keeps those that nobody has asked for yet. */
	seq_printf(out, "page_pool %lu\n",
		   pool ? (count_pages(pooled, POOLED, 0) + pool->alloc.count) * PAGE_SIZE : 0);
	return 0;
}
