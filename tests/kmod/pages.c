// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages and per-CPU memory by call site: write "hold", "less" (which frees some of it) or "drop" to
 * `pages`, read from it a line for each site: function, "pages" or "percpu", the allocator's
 * function, size of a block, blocks allocated, and bytes allocated, freed and held, which of
 * per-CPU memory are those of one CPU. Sites with "user" instead ask as for users' memory.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "planted.h"

#define EXACT_PAGES 5 /* of 8, the rest of which alloc_pages_exact() frees at once */
#define SPLIT_ORDER 4
#define MOST 257

struct planted_pages {
	const char *site, *kind, *by;
	unsigned int count; /* blocks to hold, and of these */
	unsigned int less; /* those that "less" frees */
	size_t size; /* of a block as allocated */
	size_t kept; /* of it, after parts that are freed at once */
	void *(*get)(void);
	void (*put)(void *block);
	unsigned int had, gone; /* blocks allocated, and freed whole, since the module was loaded */
	unsigned int held;
	void *blocks[MOST];
};

static planted_site void *planted_free_pages(void)
{
	void *pages = (void *)__get_free_pages(GFP_KERNEL, 1);

	planted_keep(pages);
	return pages;
}

static void put_free_pages(void *pages)
{
	free_pages((unsigned long)pages, 1);
}

static planted_site void *planted_zeroed_page(void)
{
	void *page = (void *)get_zeroed_page(GFP_KERNEL);

	planted_keep(page);
	return page;
}

static void put_page_at(void *page)
{
	free_page((unsigned long)page);
}

static planted_site void *planted_exact_pages(void)
{
	void *pages = alloc_pages_exact(EXACT_PAGES * PAGE_SIZE, GFP_KERNEL);

	planted_keep(pages);
	return pages;
}

static void put_exact_pages(void *pages)
{
	free_pages_exact(pages, EXACT_PAGES * PAGE_SIZE);
}

static planted_site void *planted_split_pages(void)
{
	struct page *page = alloc_pages(GFP_KERNEL, SPLIT_ORDER);
	unsigned int n;

	if (!page)
		return NULL;
	split_page(page, SPLIT_ORDER);
	for (n = 7; n < 1 << SPLIT_ORDER; n++)
		__free_page(page + n);
	return page;
}

static void put_split_pages(void *block)
{
	struct page *page = block;
	unsigned int n;

	for (n = 0; n < 7; n++)
		__free_page(page + n);
}

static planted_site void *planted_compound(void)
{
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_COMP, 2);

	planted_keep(page);
	return page;
}

static void put_compound(void *page)
{
	__free_pages(page, 2);
}

static planted_site void *planted_user_page(void)
{
	struct page *page = alloc_page(GFP_HIGHUSER_MOVABLE);

	planted_keep(page);
	return page;
}

static void put_user_page(void *page)
{
	__free_page(page);
}

static planted_site void *planted_percpu(void)
{
	void __percpu *memory = __alloc_percpu(24, 8);

	planted_keep(memory);
	return (void *)(__force unsigned long)memory;
}

static void put_percpu(void *memory)
{
	free_percpu((void __percpu *)(__force unsigned long)memory);
}

#define SITE(function, kind_of, helper, number, fewer, bytes, kept_bytes, putter) \
	{ .site = #function, \
	  .kind = kind_of, \
	  .by = helper, \
	  .count = number, \
	  .less = fewer, \
	  .size = bytes, \
	  .kept = kept_bytes, \
	  .get = function, \
	  .put = putter }

static struct planted_pages sites[] = {
	SITE(planted_free_pages, "pages", "__get_free_pages", 131, 31, 2 * PAGE_SIZE, 2 * PAGE_SIZE,
	     put_free_pages),
	SITE(planted_zeroed_page, "pages", "get_zeroed_page", 257, 127, PAGE_SIZE, PAGE_SIZE,
	     put_page_at),
	SITE(planted_exact_pages, "pages", "alloc_pages_exact", 61, 17, 8 * PAGE_SIZE,
	     EXACT_PAGES *PAGE_SIZE, put_exact_pages),
	SITE(planted_split_pages, "pages", "alloc_pages", 23, 5, PAGE_SIZE << SPLIT_ORDER,
	     7 * PAGE_SIZE, put_split_pages),
	SITE(planted_compound, "pages", "alloc_pages", 101, 41, 4 * PAGE_SIZE, 4 * PAGE_SIZE,
	     put_compound),
	SITE(planted_user_page, "user", "alloc_pages", 89, 3, PAGE_SIZE, PAGE_SIZE, put_user_page),
	SITE(planted_percpu, "percpu", "__alloc_percpu", 149, 53, 24, 24, put_percpu),
};

static void hold(struct planted_pages *site)
{
	while (site->held < site->count) {
		void *block = site->get();

		if (!block)
			break;
		site->blocks[site->held++] = block;
		site->had++;
	}
}

static void drop(struct planted_pages *site, unsigned int count)
{
	while (count-- && site->held) {
		site->put(site->blocks[--site->held]);
		site->gone++;
	}
}

void planted_pages_drop(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sites); i++)
		drop(&sites[i], MOST);
}

ssize_t planted_pages_write(struct file *file, const char __user *text, size_t length, loff_t *at)
{
	char name[8];
	unsigned int i;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, text, length))
		return -EFAULT;
	name[length] = 0;
	for (i = 0; i < ARRAY_SIZE(sites); i++) {
		if (!strcmp(strim(name), "hold"))
			hold(&sites[i]);
		else
			drop(&sites[i], !strcmp(strim(name), "less") ? sites[i].less : MOST);
	}
	return length;
}

int planted_pages_show(struct seq_file *out, void *unused)
{
	const struct planted_pages *site;

	for (site = sites; site < sites + ARRAY_SIZE(sites); site++) {
		size_t held = site->held * site->kept, had = site->had * site->size;

		seq_printf(out, "%s %s %s %zu %u %zu %zu %zu\n", site->site, site->kind, site->by,
			   site->size, site->had, had, had - held, held);
	}
	return 0;
}
