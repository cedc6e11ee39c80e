// SPDX-License-Identifier: GPL-2.0-only
/* Allocations by GFP class and modifier, and by node. */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/numa.h>

#include "planted.h"

#define REQUEST 73

#define FLAG_SITE(class, flags) \
	static planted_site void *planted_gfp_##class(void) \
	{ \
		void *object = kmalloc(REQUEST, flags); \
\
		planted_keep(object); \
		return object; \
	}

/*
 * slab memory may come neither from high memory nor from the DMA32 zone (the
 * allocator warns): those two classes are planted as pages below.
 */
/* clang-format off */
#define FOR_EACH_CLASS(DO) \
	DO(kernel, GFP_KERNEL) DO(atomic, GFP_ATOMIC) DO(nowait, GFP_NOWAIT) DO(noio, GFP_NOIO) \
	DO(nofs, GFP_NOFS) DO(user, GFP_USER) DO(dma, GFP_KERNEL | GFP_DMA)
/* clang-format on */

/* Not classes of their own, but other caches: kmalloc-cg-* (5.14) and kmalloc-rcl-*. */
/* clang-format off */
#define FOR_EACH_VARIANT(DO) \
	DO(account, GFP_KERNEL_ACCOUNT) DO(reclaimable, GFP_KERNEL | __GFP_RECLAIMABLE)
/* clang-format on */

/* Modifiers that change neither class nor cache. */
/* clang-format off */
#define FOR_EACH_MODIFIER(DO) \
	DO(zero, GFP_KERNEL | __GFP_ZERO) DO(nowarn, GFP_KERNEL | __GFP_NOWARN) \
	DO(noretry, GFP_KERNEL | __GFP_NORETRY) DO(nofail, GFP_KERNEL | __GFP_NOFAIL) \
	DO(retry_mayfail, GFP_KERNEL | __GFP_RETRY_MAYFAIL) DO(comp, GFP_KERNEL | __GFP_COMP) \
	DO(several, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN | __GFP_NORETRY)
/* clang-format on */

FOR_EACH_CLASS(FLAG_SITE)
FOR_EACH_VARIANT(FLAG_SITE)
FOR_EACH_MODIFIER(FLAG_SITE)

static const struct {
	void *(*site)(void);
	struct planted_how how;
	/* clang-format off */
} classes[] = {
#define CLASS_ENTRY(class, flags) \
	{ planted_gfp_##class, PLANTED_KMALLOC(planted_gfp_##class, #class) },
#define VARIANT_ENTRY(class, flags) \
	{ planted_gfp_##class, PLANTED_KMALLOC(planted_gfp_##class, "kernel") },
	FOR_EACH_CLASS(CLASS_ENTRY) FOR_EACH_VARIANT(VARIANT_ENTRY)
	FOR_EACH_MODIFIER(VARIANT_ENTRY)
};
/* clang-format on */

static int run_gfp(void)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(classes); i++) {
		for (n = 0; n < PLANTED_ALLOCS; n++)
			planted_take(&classes[i].how, classes[i].site(), REQUEST);
		planted_drop(&classes[i].how, PLANTED_FREES);
	}
	return 0;
}

static planted_site void *planted_node_static(void)
{
	void *object = kmalloc_node(REQUEST, GFP_KERNEL, numa_node_id());

	planted_keep(object);
	return object;
}

static planted_site void *planted_node_dynamic(size_t size)
{
	void *object = kmalloc_node(size, GFP_KERNEL, numa_node_id());

	planted_keep(object);
	return object;
}

static const struct planted_how node_static = PLANTED_KMALLOC(planted_node_static, "kernel");
static const struct planted_how node_dynamic = PLANTED_KMALLOC(planted_node_dynamic, "kernel");

/* Up to 6.0 the *_node functions have separate tracepoints. */
static int run_node(void)
{
	unsigned int n;

	for (n = 0; n < 53; n++) {
		planted_take(&node_static, planted_node_static(), REQUEST);
		planted_take(&node_dynamic, planted_node_dynamic(REQUEST + 128), REQUEST + 128);
	}
	planted_drop(&node_static, 13);
	planted_drop(&node_dynamic, 17);
	return 0;
}

static void free_order_1(const struct planted_how *how, void **objects, unsigned int count)
{
	while (count--)
		free_pages((unsigned long)objects[count], 1);
}

#define PAGE_SITE(class, flags) \
	static planted_site void *planted_pages_##class(void) \
	{ \
		struct page *page = alloc_pages(flags, 1); \
\
		planted_keep(page); \
		return page ? page_address(page) : NULL; \
	} \
	static const struct planted_how pages_##class = { \
		.site = "planted_pages_" #class, \
		.gfp = #class, \
		.alloc = "alloc_pages", \
		.free = "free_pages", \
		.release = free_order_1, \
		.pages = true, \
	};

PAGE_SITE(kernel, GFP_KERNEL)
PAGE_SITE(highuser, GFP_HIGHUSER)
PAGE_SITE(dma32, GFP_KERNEL | GFP_DMA32)

static void take_pages(const struct planted_how *how, void *pages)
{
	planted_take(how, pages, PAGE_SIZE << 1);
}

static int run_pages(void)
{
	unsigned int n;

	for (n = 0; n < 29; n++) {
		take_pages(&pages_kernel, planted_pages_kernel());
		take_pages(&pages_highuser, planted_pages_highuser());
		take_pages(&pages_dma32, planted_pages_dma32());
	}
	planted_drop(&pages_kernel, 7);
	planted_drop(&pages_highuser, 11);
	planted_drop(&pages_dma32, 13);
	return 0;
}

const struct planted_scenario planted_flags[] = {
	{ "gfp", run_gfp },
	{ "node", run_node },
	{ "pages", run_pages },
	{},
};
