// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects of known structs, for whoever says what lies in memory: some hold functions of this
 * module, some are reached only through a member of a struct or by a list, some by nothing.
 *
 * `typed` in debugfs lists them: struct, cache, address. The module remembers their addresses
 * inverted, so that it does not point to them itself.
 */
#include <linux/anon_inodes.h>
#include <linux/dcache.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/rbtree.h>
#include <linux/seq_file.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "planted.h"

#define MAX_TYPED 8192
#define BUCKETS 16

struct planted_ops {
	int (*open)(void *object);
	void (*close)(void *object);
	long (*ask)(void *object, long question);
};

/* One struct for each size of kmalloc; what is in `rest` is no pointer. */
struct planted_with_ops {
	const struct planted_ops *ops;
	u64 rest[3];
};

struct planted_with_call {
	u64 rest[5];
	void (*call)(void *object);
	u64 more[2];
};

struct planted_with_timer {
	u64 rest[3];
	struct timer_list timer;
	u64 more[4];
};

struct planted_with_work {
	u64 id;
	struct delayed_work work;
	u64 more[3];
};

struct planted_of_file {
	u64 rest[24];
};

struct planted_of_dentry {
	u64 rest[32];
};

struct planted_of_device {
	u64 rest[64];
};

struct planted_in_list {
	u64 rest[2];
	struct list_head peers;
	u64 more[124];
};

struct planted_in_hlist {
	u64 rest[8];
	struct hlist_node hash;
	u64 more[246];
};

struct planted_in_tree {
	u64 rest[16];
	struct rb_node node;
	u64 more[493];
};

struct planted_in_xarray {
	u64 rest[1024];
};

/* A queue holds functions; its items are reached only by the list in it. */
struct planted_queue {
	const struct planted_ops *ops;
	struct list_head items;
	u64 rest[9];
};

struct planted_item {
	u64 rest[4];
	struct list_head queued;
	u64 more[2];
};

/* These only through members of a struct in a cache of its own; leaves are chained. */
struct planted_child {
	u64 rest[14];
	struct planted_leaf *leaves;
};

struct planted_leaf {
	u64 rest[40];
	struct planted_leaf *next;
};

struct planted_slot {
	u64 rest[25];
};

/* The first of a ring and of a tree is pointed to, the others are reached by links. */
struct planted_ring {
	u64 rest[4];
	struct list_head round;
};

struct planted_branch {
	u64 rest[6];
	struct rb_node node;
};

struct planted_wide {
	u64 rest[125];
};

struct planted_narrow {
	u64 rest[7];
};

#define SLOTS 2
#define LEAVES 3
#define RING 5
#define BRANCHES 7

struct slabmon_planted_parent {
	u64 rest[67];
	struct planted_child *child;
	struct planted_slot *slots[SLOTS];
	struct planted_ring *ring;
	struct planted_branch *top;
	union {
		struct planted_wide *wide;
		struct planted_narrow *narrow;
	};
};

enum typed_kind {
	WITH_OPS,
	WITH_CALL,
	WITH_TIMER,
	WITH_WORK,
	OF_FILE,
	OF_DENTRY,
	OF_DEVICE,
	IN_LIST,
	IN_HLIST,
	IN_TREE,
	IN_XARRAY,
	QUEUE,
	ITEM,
	CHILD,
	LEAF,
	SLOT,
	RING_MEMBER,
	BRANCH,
	WIDE,
	NARROW,
	RAW_32, /* from here on: nothing points to them, and nothing but bytes is in them */
	RAW_64,
	RAW_256,
	RAW_2K,
	KINDS
};

static const struct {
	const char *name;
	size_t size;
	unsigned int count;
} kinds[KINDS] = {
	[WITH_OPS] = { "planted_with_ops", sizeof(struct planted_with_ops), 1009 },
	[WITH_CALL] = { "planted_with_call", sizeof(struct planted_with_call), 503 },
	[WITH_TIMER] = { "planted_with_timer", sizeof(struct planted_with_timer), 211 },
	[WITH_WORK] = { "planted_with_work", sizeof(struct planted_with_work), 199 },
	[OF_FILE] = { "planted_of_file", sizeof(struct planted_of_file), 101 },
	[OF_DENTRY] = { "planted_of_dentry", sizeof(struct planted_of_dentry), 103 },
	[OF_DEVICE] = { "planted_of_device", sizeof(struct planted_of_device), 53 },
	[IN_LIST] = { "planted_in_list", sizeof(struct planted_in_list), 61 },
	[IN_HLIST] = { "planted_in_hlist", sizeof(struct planted_in_hlist), 59 },
	[IN_TREE] = { "planted_in_tree", sizeof(struct planted_in_tree), 31 },
	[IN_XARRAY] = { "planted_in_xarray", sizeof(struct planted_in_xarray), 29 },
	[QUEUE] = { "planted_queue", sizeof(struct planted_queue), 7 },
	[ITEM] = { "planted_item", sizeof(struct planted_item), 307 },
	[CHILD] = { "planted_child", sizeof(struct planted_child), 107 },
	[LEAF] = { "planted_leaf", sizeof(struct planted_leaf), LEAVES * 107 },
	[SLOT] = { "planted_slot", sizeof(struct planted_slot), SLOTS * 107 },
	[RING_MEMBER] = { "planted_ring", sizeof(struct planted_ring), RING * 107 },
	[BRANCH] = { "planted_branch", sizeof(struct planted_branch), BRANCHES * 107 },
	[WIDE] = { "planted_wide", sizeof(struct planted_wide), 53 },
	[NARROW] = { "planted_narrow", sizeof(struct planted_narrow), 54 },
	[RAW_32] = { "raw", 32, 401 },
	[RAW_64] = { "raw", 64, 211 },
	[RAW_256] = { "raw", 256, 97 },
	[RAW_2K] = { "raw", 2048, 31 },
};

/* `ours` are freed here, the others are the kernel's. */
static struct {
	u64 inverted;
	const char *name;
	size_t size;
	bool ours;
} typed[MAX_TYPED];
static unsigned int nr_typed;
static bool added;

static struct kmem_cache *parents_cache;
static LIST_HEAD(typed_list);
static struct hlist_head typed_table[BUCKETS];
static struct rb_root typed_tree = RB_ROOT;
static DEFINE_XARRAY(typed_xarray);

/* Pointers to what is no kmalloc object, all of which typed_remove() undoes. */
static struct file *files[101];
static struct dentry *dentries[103];
static struct platform_device *owners[53];
static struct slabmon_planted_parent *parents[107];

static noinline int typed_open(void *object)
{
	return object ? 0 : -EINVAL;
}

static noinline void typed_close(void *object)
{
	planted_keep(object);
}

static noinline long typed_ask(void *object, long question)
{
	return object ? question : 0;
}

static const struct planted_ops typed_ops = {
	.open = typed_open,
	.close = typed_close,
	.ask = typed_ask,
};

static void typed_called(void *object)
{
	planted_keep(object);
}

static void typed_expires(struct timer_list *timer)
{
}

static void typed_works(struct work_struct *work)
{
}

static const struct file_operations typed_file_operations = {
	.owner = THIS_MODULE,
	.llseek = noop_llseek,
};

/* Lists an object that somebody else allocated and will free after planted_typed_remove(). */
int planted_typed_note(const char *name, const void *object, size_t size)
{
	if (!object || nr_typed == MAX_TYPED)
		return -ENOMEM;
	typed[nr_typed].name = name;
	typed[nr_typed].size = size;
	typed[nr_typed].ours = false;
	typed[nr_typed++].inverted = ~(u64)object;
	return 0;
}

/* Returns an object full of numbers that are no addresses; NULL when there is no room for it. */
planted_site void *planted_typed_new(const char *name, size_t size)
{
	u64 *object = kmalloc(size, GFP_KERNEL);
	unsigned int n;

	if (planted_typed_note(name, object, size)) {
		kfree(object);
		return NULL;
	}
	typed[nr_typed - 1].ours = true;
	for (n = 0; n < size / sizeof(u64); n++)
		object[n] = 0x5a5a0000u + nr_typed * 8 + n;
	return object;
}

static void *typed_alloc(enum typed_kind kind)
{
	return planted_typed_new(kinds[kind].name, kinds[kind].size);
}

static int add_with_functions(void)
{
	unsigned int n;

	for (n = 0; n < kinds[WITH_OPS].count; n++) {
		struct planted_with_ops *object = typed_alloc(WITH_OPS);

		if (!object)
			return -ENOMEM;
		object->ops = &typed_ops;
	}
	for (n = 0; n < kinds[WITH_CALL].count; n++) {
		struct planted_with_call *object = typed_alloc(WITH_CALL);

		if (!object)
			return -ENOMEM;
		object->call = typed_called;
	}
	for (n = 0; n < kinds[WITH_TIMER].count; n++) {
		struct planted_with_timer *object = typed_alloc(WITH_TIMER);

		if (!object)
			return -ENOMEM;
		timer_setup(&object->timer, typed_expires, 0);
	}
	for (n = 0; n < kinds[WITH_WORK].count; n++) {
		struct planted_with_work *object = typed_alloc(WITH_WORK);

		if (!object)
			return -ENOMEM;
		INIT_DELAYED_WORK(&object->work, typed_works);
	}
	return 0;
}

static int add_files(void)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(files); n++) {
		void *object = typed_alloc(OF_FILE);
		struct file *file;

		if (!object)
			return -ENOMEM;
		file = anon_inode_getfile("[slabmon_planted]", &typed_file_operations, object,
					  O_RDONLY);
		if (IS_ERR(file))
			return PTR_ERR(file);
		files[n] = file;
	}
	return 0;
}

static int add_dentries(struct super_block *super)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(dentries); n++) {
		void *object = typed_alloc(OF_DENTRY);

		if (!object)
			return -ENOMEM;
		dentries[n] = d_alloc_anon(super);
		if (!dentries[n])
			return -ENOMEM;
		dentries[n]->d_fsdata = object;
	}
	return 0;
}

static int add_devices(void)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(owners); n++) {
		void *object = typed_alloc(OF_DEVICE);
		struct platform_device *owner;

		if (!object)
			return -ENOMEM;
		owner = platform_device_register_simple("slabmon_typed", n, NULL, 0);
		if (IS_ERR(owner))
			return PTR_ERR(owner);
		owners[n] = owner;
		platform_set_drvdata(owner, object);
	}
	return 0;
}

static void insert_into(struct rb_root *tree, struct rb_node *node)
{
	struct rb_node **link = &tree->rb_node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = (unsigned long)node < (unsigned long)parent ? &parent->rb_left
								   : &parent->rb_right;
	}
	rb_link_node(node, parent, link);
	rb_insert_color(node, tree);
}

static int add_linked(void)
{
	unsigned int n;

	for (n = 0; n < kinds[IN_LIST].count; n++) {
		struct planted_in_list *object = typed_alloc(IN_LIST);

		if (!object)
			return -ENOMEM;
		list_add_tail(&object->peers, &typed_list);
	}
	for (n = 0; n < kinds[IN_HLIST].count; n++) {
		struct planted_in_hlist *object = typed_alloc(IN_HLIST);

		if (!object)
			return -ENOMEM;
		hlist_add_head(&object->hash, &typed_table[n % BUCKETS]);
	}
	for (n = 0; n < kinds[IN_TREE].count; n++) {
		struct planted_in_tree *object = typed_alloc(IN_TREE);

		if (!object)
			return -ENOMEM;
		insert_into(&typed_tree, &object->node);
	}
	for (n = 0; n < kinds[IN_XARRAY].count; n++) {
		void *object = typed_alloc(IN_XARRAY);
		int error;

		if (!object)
			return -ENOMEM;
		error = xa_err(xa_store(&typed_xarray, n, object, GFP_KERNEL));
		if (error)
			return error;
	}
	return 0;
}

static int add_queues(void)
{
	struct planted_queue *queue = NULL;
	unsigned int n;

	for (n = 0; n < kinds[ITEM].count; n++) {
		struct planted_item *item;

		if (n % 47 == 0) {
			queue = typed_alloc(QUEUE);
			if (!queue)
				return -ENOMEM;
			queue->ops = &typed_ops;
			INIT_LIST_HEAD(&queue->items);
		}
		item = typed_alloc(ITEM);
		if (!item)
			return -ENOMEM;
		list_add_tail(&item->queued, &queue->items);
	}
	return 0;
}

static int add_child(struct slabmon_planted_parent *parent)
{
	unsigned int n;

	parent->child = typed_alloc(CHILD);
	if (!parent->child)
		return -ENOMEM;
	parent->child->leaves = NULL;
	for (n = 0; n < LEAVES; n++) {
		struct planted_leaf *leaf = typed_alloc(LEAF);

		if (!leaf)
			return -ENOMEM;
		leaf->next = parent->child->leaves;
		parent->child->leaves = leaf;
	}
	for (n = 0; n < SLOTS; n++) {
		parent->slots[n] = typed_alloc(SLOT);
		if (!parent->slots[n])
			return -ENOMEM;
	}
	return 0;
}

/* The ring has no head besides its members; the root of the tree is in none of them. */
static int add_ring_and_tree(struct slabmon_planted_parent *parent)
{
	struct rb_root tree = RB_ROOT;
	unsigned int n;

	for (n = 0; n < RING; n++) {
		struct planted_ring *member = typed_alloc(RING_MEMBER);

		if (!member)
			return -ENOMEM;
		INIT_LIST_HEAD(&member->round);
		if (parent->ring)
			list_add_tail(&member->round, &parent->ring->round);
		else
			parent->ring = member;
	}
	for (n = 0; n < BRANCHES; n++) {
		struct planted_branch *node = typed_alloc(BRANCH);

		if (!node)
			return -ENOMEM;
		insert_into(&tree, &node->node);
	}
	parent->top = rb_entry(tree.rb_node, struct planted_branch, node);
	return 0;
}

static int add_parents(void)
{
	unsigned int n;
	int error;

	for (n = 0; n < ARRAY_SIZE(parents); n++) {
		parents[n] = kmem_cache_zalloc(parents_cache, GFP_KERNEL);
		if (!parents[n])
			return -ENOMEM;
		error = add_child(parents[n]) ?: add_ring_and_tree(parents[n]);
		if (error)
			return error;
		if (n % 2)
			parents[n]->wide = typed_alloc(WIDE);
		else
			parents[n]->narrow = typed_alloc(NARROW);
		if (!parents[n]->wide)
			return -ENOMEM;
	}
	return 0;
}

static int add_raw(void)
{
	enum typed_kind kind;
	unsigned int n;

	for (kind = RAW_32; kind < KINDS; kind++)
		for (n = 0; n < kinds[kind].count; n++)
			if (!typed_alloc(kind))
				return -ENOMEM;
	return 0;
}

/* Files go when the writing task returns to user space. */
int planted_typed_remove(void)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(files); n++)
		if (files[n])
			fput(files[n]);
	for (n = 0; n < ARRAY_SIZE(dentries); n++)
		if (dentries[n]) {
			dentries[n]->d_fsdata = NULL;
			dput(dentries[n]);
		}
	for (n = 0; n < ARRAY_SIZE(owners); n++)
		if (owners[n])
			platform_device_unregister(owners[n]);
	for (n = 0; n < ARRAY_SIZE(parents); n++)
		if (parents[n])
			kmem_cache_free(parents_cache, parents[n]);
	xa_destroy(&typed_xarray);
	INIT_LIST_HEAD(&typed_list);
	typed_tree = RB_ROOT;
	memset(typed_table, 0, sizeof(typed_table));
	memset(files, 0, sizeof(files));
	memset(dentries, 0, sizeof(dentries));
	memset(owners, 0, sizeof(owners));
	memset(parents, 0, sizeof(parents));
	planted_structs_remove();
	while (nr_typed) {
		nr_typed--;
		if (typed[nr_typed].ours)
			kfree((void *)~typed[nr_typed].inverted);
	}
	kmem_cache_destroy(parents_cache);
	parents_cache = NULL;
	added = false;
	return 0;
}

int planted_typed_add(struct super_block *super)
{
	int error;

	if (added)
		return -EBUSY;
	added = true;
	parents_cache =
		kmem_cache_create("slabmon_planted_parent", sizeof(struct slabmon_planted_parent),
				  0, SLAB_ACCOUNT, NULL);
	if (!parents_cache)
		return -ENOMEM;
	error = add_with_functions();
	error = error ?: add_files();
	error = error ?: add_dentries(super);
	error = error ?: add_devices();
	error = error ?: add_linked();
	error = error ?: add_queues();
	error = error ?: add_parents();
	error = error ?: add_raw();
	error = error ?: planted_structs_add(super);
	if (error)
		planted_typed_remove();
	return error;
}

/* struct, cache, address */
int planted_typed_show(struct seq_file *out, void *unused)
{
	unsigned int n;

	for (n = 0; n < nr_typed; n++) {
		void *object = (void *)~typed[n].inverted;
		struct planted_slab slab;

		planted_look(object, typed[n].size, &slab);
		seq_printf(out, "%s %s %px\n", typed[n].name, slab.cache, object);
	}
	return 0;
}
