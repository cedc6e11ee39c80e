// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects whose structs can be found out: structs of the kernel on every kernel, and structs of
 * this module, which are reached from a struct that a cache is named after, where it has types
 * (BTF). Each is reached in one way. What is in `rest` is no pointer.
 */
#include <linux/cdev.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pm.h>
#include <linux/pm_wakeup.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "planted.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#include <linux/maple_tree.h>
#define MAPLE_TREES
#endif

#define DEVICES 53
#define SOURCES 47
#define WORKS 43
#define INODES 41
#define KOBJECTS 37
#define CDEVS 31
#define HUBS 29
#define EACH 3 /* elements of each list, table or tree */

/* Lists whose members differ in size, and in where they are linked. */
struct planted_listed_first {
	struct list_head link;
	u64 rest[9];
};

struct planted_listed_middle {
	u64 rest[9];
	struct list_head link;
	u64 more[10];
};

struct planted_listed_last {
	u64 rest[60];
	struct list_head link;
};

struct planted_hashed {
	u64 rest[5];
	struct hlist_node link;
	u64 more[3];
};

struct planted_sorted {
	u64 rest[3];
	struct rb_node link;
	u64 more[24];
};

/* One of each tree is pointed to by a member as well. */
struct planted_entry {
	u64 rest[31];
};

struct planted_mapled {
	u64 rest[15];
};

/* What is known is in the middle of it. */
struct planted_box {
	struct planted_box_content *content;
	u64 rest[7];
};

struct planted_boxed {
	u64 rest[3];
	struct planted_box box;
	u64 more[5];
};

struct planted_box_content {
	u64 rest[17];
};

/* An array at its end, and an array of pointers by itself. */
struct planted_many {
	u64 count;
	struct planted_element *elements[];
};

struct planted_element {
	u64 rest[21];
};

struct planted_celled {
	u64 rest[29];
};

struct slabmon_planted_hub {
	u64 rest[41];
	struct list_head first, middle, last;
	struct hlist_head hashed;
	struct rb_root sorted;
	struct xarray entries;
	struct planted_entry *entry;
	struct planted_mapled *mapled;
#ifdef MAPLE_TREES
	struct maple_tree maple;
#endif
	struct planted_box *box;
	struct planted_many *many;
	struct planted_celled **cells;
};

static struct kmem_cache *hubs_cache;
static struct slabmon_planted_hub *hubs[HUBS];
static struct platform_device *devices[DEVICES];
static struct wakeup_source *sources[SOURCES];
static struct inode *inodes[INODES];
static struct kobject *kobjects[KOBJECTS];
static struct cdev *cdevs[CDEVS];

static void structs_works(struct work_struct *work)
{
}

#define NEW(type) ((struct type *)planted_typed_new(#type, sizeof(struct type)))

/* A pointer to void in the inode's union could be a pipe as well: the size tells. */
static int add_inodes(struct super_block *super)
{
	unsigned int n;

	for (n = 0; n < INODES; n++) {
		inodes[n] = new_inode(super);
		if (!inodes[n])
			return -ENOMEM;
		inodes[n]->i_cdev = NEW(cdev);
		if (!inodes[n]->i_cdev)
			return -ENOMEM;
	}
	return 0;
}

/* Devices: embedded in what the platform allocates, with a private part, and one pointer. */
static int add_struct_devices(void)
{
	unsigned int n;

	for (n = 0; n < DEVICES; n++) {
		struct platform_device *device;
		struct dev_pm_domain *domain = NEW(dev_pm_domain);
		int error;

		if (!domain)
			return -ENOMEM;
		memset(domain, 0, sizeof(*domain));
		device = platform_device_register_simple("slabmon_struct", n, NULL, 0);
		if (IS_ERR(device))
			return PTR_ERR(device);
		devices[n] = device;
		device->dev.pm_domain = domain;
		error = planted_typed_note("platform_object", device, sizeof(*device));
		error = error ?: planted_typed_note("device_private", device->dev.p, 192);
		if (error)
			return error;
	}
	return 0;
}

/* The kernel has them all in one list. */
static int add_sources(void)
{
	unsigned int n;
	int error;

	for (n = 0; n < SOURCES; n++) {
		sources[n] = wakeup_source_register(NULL, "slabmon_struct");
		error = planted_typed_note("wakeup_source", sources[n], sizeof(*sources[n]));
		if (error)
			return error;
	}
	return 0;
}

static int add_with_known_functions(void)
{
	unsigned int n;
	char name[32];
	int error;

	for (n = 0; n < WORKS; n++) {
		struct delayed_work *work = NEW(delayed_work);

		if (!work)
			return -ENOMEM;
		INIT_DELAYED_WORK(work, structs_works);
	}
	for (n = 0; n < KOBJECTS; n++) {
		snprintf(name, sizeof(name), "slabmon_struct%u", n);
		kobjects[n] = kobject_create_and_add(name, kernel_kobj);
		error = planted_typed_note("kobject", kobjects[n], sizeof(*kobjects[n]));
		if (error)
			return error;
	}
	for (n = 0; n < CDEVS; n++) {
		cdevs[n] = cdev_alloc();
		error = planted_typed_note("cdev", cdevs[n], sizeof(*cdevs[n]));
		if (error)
			return error;
	}
	return 0;
}

static int add_lists(struct slabmon_planted_hub *hub)
{
	unsigned int n;

	INIT_LIST_HEAD(&hub->first);
	INIT_LIST_HEAD(&hub->middle);
	INIT_LIST_HEAD(&hub->last);
	for (n = 0; n < EACH; n++) {
		struct planted_listed_first *first = NEW(planted_listed_first);
		struct planted_listed_middle *middle = NEW(planted_listed_middle);
		struct planted_listed_last *last = NEW(planted_listed_last);
		struct planted_hashed *hashed = NEW(planted_hashed);

		if (!first || !middle || !last || !hashed)
			return -ENOMEM;
		list_add(&first->link, &hub->first);
		list_add(&middle->link, &hub->middle);
		list_add(&last->link, &hub->last);
		hlist_add_head(&hashed->link, &hub->hashed);
	}
	return 0;
}

static int add_trees(struct slabmon_planted_hub *hub)
{
	struct rb_node **link = &hub->sorted.rb_node, *above = NULL;
	unsigned int n;
	int error;

	xa_init(&hub->entries);
	for (n = 0; n < EACH; n++) {
		struct planted_sorted *sorted = NEW(planted_sorted);
		struct planted_entry *entry = NEW(planted_entry);

		if (!sorted || !entry)
			return -ENOMEM;
		rb_link_node(&sorted->link, above, link);
		rb_insert_color(&sorted->link, &hub->sorted);
		for (link = &hub->sorted.rb_node; *link; link = &above->rb_right)
			above = *link;
		error = xa_err(xa_store(&hub->entries, 5 * n + 1, entry, GFP_KERNEL));
		if (error)
			return error;
		hub->entry = entry;
	}
#ifdef MAPLE_TREES
	mt_init(&hub->maple);
	for (n = 0; n < EACH; n++) {
		hub->mapled = NEW(planted_mapled);
		if (!hub->mapled)
			return -ENOMEM;
		error = mtree_store(&hub->maple, 7 * n + 2, hub->mapled, GFP_KERNEL);
		if (error)
			return error;
	}
#endif
	return 0;
}

static int add_boxes_and_arrays(struct slabmon_planted_hub *hub)
{
	struct planted_boxed *boxed = NEW(planted_boxed);
	unsigned int n;

	hub->many = planted_typed_new("planted_many", struct_size(hub->many, elements, EACH));
	hub->cells = kcalloc(EACH, sizeof(*hub->cells), GFP_KERNEL);
	if (!boxed || !hub->many || !hub->cells)
		return -ENOMEM;
	hub->box = &boxed->box;
	boxed->box.content = NEW(planted_box_content);
	for (n = 0; n < EACH; n++) {
		hub->many->elements[n] = NEW(planted_element);
		hub->cells[n] = NEW(planted_celled);
		if (!hub->many->elements[n] || !hub->cells[n])
			return -ENOMEM;
	}
	return boxed->box.content ? 0 : -ENOMEM;
}

static int add_hubs(void)
{
	unsigned int n;
	int error = 0;

	hubs_cache = kmem_cache_create("slabmon_planted_hub", sizeof(struct slabmon_planted_hub), 0,
				       SLAB_ACCOUNT, NULL);
	if (!hubs_cache)
		return -ENOMEM;
	for (n = 0; n < HUBS && !error; n++) {
		hubs[n] = kmem_cache_zalloc(hubs_cache, GFP_KERNEL);
		if (!hubs[n])
			return -ENOMEM;
		error = add_lists(hubs[n]) ?: add_trees(hubs[n]) ?: add_boxes_and_arrays(hubs[n]);
	}
	return error;
}

int planted_structs_add(struct super_block *super)
{
	return add_inodes(super) ?: add_struct_devices() ?: add_sources() ?:
				    add_with_known_functions() ?: add_hubs();
}

/* What was allocated by planted_typed_new() goes after this. */
void planted_structs_remove(void)
{
	unsigned int n;

	for (n = 0; n < INODES; n++)
		if (inodes[n]) {
			inodes[n]->i_cdev = NULL;
			iput(inodes[n]);
		}
	for (n = 0; n < DEVICES; n++)
		if (devices[n]) {
			devices[n]->dev.pm_domain = NULL;
			platform_device_unregister(devices[n]);
		}
	for (n = 0; n < SOURCES; n++)
		wakeup_source_unregister(sources[n]);
	for (n = 0; n < KOBJECTS; n++)
		kobject_put(kobjects[n]);
	for (n = 0; n < CDEVS; n++)
		if (cdevs[n])
			kobject_put(&cdevs[n]->kobj);
	for (n = 0; n < HUBS; n++)
		if (hubs[n]) {
			xa_destroy(&hubs[n]->entries);
#ifdef MAPLE_TREES
			mtree_destroy(&hubs[n]->maple);
#endif
			kfree(hubs[n]->cells);
			kmem_cache_free(hubs_cache, hubs[n]);
		}
	memset(inodes, 0, sizeof(inodes));
	memset(devices, 0, sizeof(devices));
	memset(sources, 0, sizeof(sources));
	memset(kobjects, 0, sizeof(kobjects));
	memset(cdevs, 0, sizeof(cdevs));
	memset(hubs, 0, sizeof(hubs));
	kmem_cache_destroy(hubs_cache);
	hubs_cache = NULL;
}
