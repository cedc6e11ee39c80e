// SPDX-License-Identifier: GPL-2.0-only
/*
 * The few structures that the kernel does not export, mirrored per version.
 * Each layout names the version it was seen in; planted_look_check() and the
 * self test compare what is read through them with what is known otherwise.
 */
#include <linux/device.h>
#include <linux/mm.h>

#include "planted.h"

/*
 * struct kmem_cache, as far as its name. Debian's configuration: no SLUB_TINY,
 * and SLUB_CPU_PARTIAL where there is one.
 */
struct mirror_cache {
	void *percpu;
	unsigned long flags, min_partial;
	u32 size, object_size;
	u64 reciprocal_size;
	u32 offset;
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0) /* as in 5.10 */
	u32 cpu_partial;
	u32 oo, max, min, allocflags;
#elif LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0) /* as in 6.1 and 6.12 */
	u32 cpu_partial, cpu_partial_slabs;
	u32 oo, min, allocflags;
#else /* as in 7.3 */
	u32 sheaf_capacity;
	u32 oo, min, allocflags;
#endif
	int refcount;
	void *ctor;
	u32 inuse, align, red_left_pad;
	const char *name;
};

static const struct mirror_cache *mirrored(const struct kmem_cache *cache)
{
	return (const struct mirror_cache *)cache;
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 17, 0) /* struct page is the slab */
static struct kmem_cache *cache_of(const void *object)
{
	return virt_to_head_page(object)->slab_cache;
}
#else
struct mirror_slab {
	unsigned long flags;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0) /* as in 6.1: after a list or rcu_head */
	void *list[2];
#endif
	struct kmem_cache *cache;
};

static struct kmem_cache *cache_of(const void *object)
{
	return ((struct mirror_slab *)virt_to_head_page(object))->cache;
}
#endif

/* Which cache an object lies in, and how much of it the object takes. */
void planted_look(const void *object, size_t requested, struct planted_slab *slab)
{
	if (!object || requested > KMALLOC_MAX_CACHE_SIZE) {
		slab->cache = "kmalloc-large";
		slab->size = object ? PAGE_SIZE << get_order(requested) : 0;
		return;
	}
	slab->cache = mirrored(cache_of(object))->name;
	slab->size = mirrored(cache_of(object))->size;
}

/* Refuse to load where the mirrors are wrong, rather than publish nonsense. */
int planted_look_check(void)
{
	void *object = kmem_cache_alloc(planted_ctor_cache, GFP_KERNEL);
	struct kmem_cache *cache;
	int error = 0;

	if (!object)
		return -ENOMEM;
	cache = cache_of(object);
	if (cache != planted_ctor_cache || strcmp(mirrored(cache)->name, "slabmon_planted_ctor") ||
	    mirrored(cache)->object_size != kmem_cache_size(planted_ctor_cache)) {
		pr_err("slabmon_planted: private.c does not fit this kernel\n");
		error = -EOPNOTSUPP;
	}
	kmem_cache_free(planted_ctor_cache, object);
	return error;
}

/* Private to drivers/base/devres.c. */
struct mirror_devres {
	struct list_head entry;
	void *release;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0) /* as in 7.3 */
	void *free_node;
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0) /* as in 6.1 and 6.12 */
	const char *name;
	size_t size;
#endif
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
/* What the slab object that @object begins occupies; ksize() leaves slub_debug's part out. */
static size_t occupied(const void *object)
{
	size_t size = ksize(object);

	return size > KMALLOC_MAX_CACHE_SIZE ? size : mirrored(cache_of(object))->size;
}
#endif

/* Call @each for every managed resource of a device, under the lock of its list. */
int planted_nodes(struct device *dev, void (*each)(const struct planted_node *, void *),
		  void *context)
{
	struct mirror_devres *node;
	unsigned long flags;
	int count = 0;

	spin_lock_irqsave(&dev->devres_lock, flags);
	list_for_each_entry(node, &dev->devres_head, entry) {
		struct planted_node seen = { .release = node->release, .size = -1 };

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
		seen.name = node->name;
		seen.size = node->size;
		/* The second node of a group is in one object with the first. */
		seen.slab = strcmp(node->name, "grp>") ? occupied(node) : 0;
#endif
		each(&seen, context);
		count++;
	}
	spin_unlock_irqrestore(&dev->devres_lock, flags);
	return count;
}
