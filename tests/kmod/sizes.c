// SPDX-License-Identifier: GPL-2.0-only
/* kmalloc by size: every class, large ones, sizes known and unknown to the compiler. */
#include <linux/gfp.h>

#include "planted.h"

/*
 * A constant size makes kmalloc pick the cache at compile time: another path,
 * and up to 6.0 another tracing function, than a size computed at run time.
 */
#define STATIC_SITE(class, request) \
	static planted_site void *planted_kmalloc_##class(void) \
	{ \
		void *object = kmalloc(request, GFP_KERNEL); \
\
		planted_keep(object); \
		return object; \
	}

/* One byte more than the next smaller class holds, or a few less than the class. */
/* clang-format off */
#define FOR_EACH_CLASS(DO) \
	DO(8, 5) DO(16, 9) DO(32, 31) DO(64, 33) DO(96, 65) DO(128, 127) DO(192, 129) \
	DO(256, 251) DO(512, 257) DO(1024, 1021) DO(2048, 1025) DO(4096, 4093) DO(8192, 4097)
/* clang-format on */

FOR_EACH_CLASS(STATIC_SITE)

static const struct {
	void *(*site)(void);
	size_t request;
	struct planted_how how;
	/* clang-format off */
} classes[] = {
#define CLASS_ENTRY(class, request) \
	{ planted_kmalloc_##class, request, PLANTED_KMALLOC(planted_kmalloc_##class, "kernel") },
	FOR_EACH_CLASS(CLASS_ENTRY)
};
/* clang-format on */

static int run_sizes(void)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(classes); i++) {
		for (n = 0; n < PLANTED_ALLOCS; n++)
			planted_take(&classes[i].how, classes[i].site(), classes[i].request);
		planted_drop(&classes[i].how, PLANTED_FREES);
	}
	return 0;
}

static planted_site void *planted_kmalloc_dynamic(size_t size)
{
	void *object = kmalloc(size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how dynamic = PLANTED_KMALLOC(planted_kmalloc_dynamic, "kernel");

/* One site, all caches. */
static int run_dynamic(void)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(classes); i++)
		for (n = 0; n < 17; n++)
			planted_take(&dynamic, planted_kmalloc_dynamic(classes[i].request),
				     classes[i].request);
	planted_drop(&dynamic, PLANTED_FREES);
	return 0;
}

#define LARGE_STATIC (3 * PAGE_SIZE - 7)
#define LARGE_DYNAMIC (5 * PAGE_SIZE + 11)

static planted_site void *planted_large_static(void)
{
	void *object = kmalloc(LARGE_STATIC, GFP_KERNEL);

	planted_keep(object);
	return object;
}

/* From 6.11 on this one emits two kmalloc events; the second has this call site. */
static planted_site void *planted_large_dynamic(size_t size)
{
	void *object = kmalloc(size, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how large_static = PLANTED_KMALLOC(planted_large_static, "kernel");
static const struct planted_how large_dynamic = PLANTED_KMALLOC(planted_large_dynamic, "kernel");

static int run_large(void)
{
	unsigned int n;

	for (n = 0; n < 13; n++)
		planted_take(&large_static, planted_large_static(), LARGE_STATIC);
	for (n = 0; n < 11; n++)
		planted_take(&large_dynamic, planted_large_dynamic(LARGE_DYNAMIC), LARGE_DYNAMIC);
	planted_drop(&large_static, 5);
	planted_drop(&large_dynamic, 3);
	return 0;
}

static planted_site void *planted_failed(size_t size)
{
	void *object = kmalloc(size, GFP_KERNEL | __GFP_NOWARN);

	planted_keep(object);
	return object;
}

static const struct planted_how failed = PLANTED_KMALLOC(planted_failed, "kernel");

/* Twice what the allocator can ever give: refused without trying to free memory. */
static int run_failed(void)
{
	unsigned int n;

	for (n = 0; n < 23; n++)
		planted_take(&failed, planted_failed(2 * KMALLOC_MAX_SIZE + 1),
			     2 * KMALLOC_MAX_SIZE + 1);
	return 0;
}

#define GROW_FROM 41
#define GROW_TO 301
#define FIT_FROM 43
#define FIT_TO 59

static planted_site void *planted_krealloc_old(void)
{
	void *object = kmalloc(GROW_FROM, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_krealloc_grow(void *old)
{
	void *object = krealloc(old, GROW_TO, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_krealloc_fits(void)
{
	void *object = kmalloc(FIT_FROM, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_krealloc_in_place(void *old)
{
	void *object = krealloc(old, FIT_TO, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static const struct planted_how grow_old = PLANTED_KMALLOC(planted_krealloc_old, "kernel");
static const struct planted_how grow_new = PLANTED_KMALLOC(planted_krealloc_grow, "kernel");
static const struct planted_how fits = PLANTED_KMALLOC(planted_krealloc_fits, "kernel");

/* Growing is an allocation and a free inside krealloc; in place is no event at all. */
static int run_krealloc(void)
{
	unsigned int n;

	for (n = 0; n < 19; n++) {
		void *old = planted_krealloc_old(), *object;

		if (!old)
			return -ENOMEM;
		planted_take(&grow_old, old, GROW_FROM);
		object = planted_krealloc_grow(old);
		if (!object)
			return -ENOMEM;
		planted_forget(&grow_old, old);
		planted_take(&grow_new, object, GROW_TO);
	}
	for (n = 0; n < 17; n++) {
		void *object = planted_krealloc_fits();

		if (!object)
			return -ENOMEM;
		planted_take(&fits, object, FIT_FROM);
		if (planted_krealloc_in_place(object) != object)
			return -EIO;
	}
	planted_drop(&grow_new, 7);
	planted_drop(&fits, 5);
	return 0;
}

const struct planted_scenario planted_sizes[] = {
	{ "sizes", run_sizes },	  { "dynamic", run_dynamic },	{ "large", run_large },
	{ "failed", run_failed }, { "krealloc", run_krealloc }, {},
};
