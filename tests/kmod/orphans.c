// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects that nothing refers to any more, and objects to which references of all kinds remain, one
 * kind each. The module remembers all of them inverted, so that it does not refer to them itself.
 */
#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/rbtree.h>
#include <linux/scatterlist.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#include <linux/maple_tree.h>
#endif

#include "planted.h"

#define LOST 4001
#define LOST_SIZE 200
#define RINGS 47
#define IN_RING 3
#define RING_SIZE 400
#define LOST_LARGE 7
#define LARGE_SIZE (3 * PAGE_SIZE)
#define KEPT 101
#define KEPT_SIZE 900
#define BUCKETS 16
#define MAX_HIDDEN 8192

struct planted_object {
	u64 id;
	void (*call)(void *object); /* says what kind of object it is */
	union {
		struct list_head list;
		struct hlist_node hash;
		struct llist_node lockless;
		struct rb_node tree;
		struct timer_list timer;
		struct planted_object *next;
	};
};

static u64 hidden[MAX_HIDDEN];
static unsigned int nr_hidden;

#define ORPHAN_SITE(name, bytes) \
	static planted_site void *name(void) \
	{ \
		void *object = kzalloc(bytes, GFP_KERNEL); \
\
		planted_keep(object); \
		return object; \
	} \
	static const struct planted_how name##_how = PLANTED_KMALLOC(name, "kernel");

ORPHAN_SITE(planted_lost, LOST_SIZE)
ORPHAN_SITE(planted_ring, RING_SIZE)
ORPHAN_SITE(planted_lost_large, LARGE_SIZE)
ORPHAN_SITE(planted_kept, KEPT_SIZE)

#define KIND(name) \
	static planted_site void name(void *object) \
	{ \
		planted_keep(object); \
	}

KIND(planted_is_lost)
KIND(planted_is_in_ring)
KIND(planted_is_large)

static struct planted_object *mark(struct planted_object *object, void (*call)(void *))
{
	if (!object || nr_hidden == MAX_HIDDEN) {
		kfree(object);
		return NULL;
	}
	object->id = nr_hidden;
	object->call = call;
	hidden[nr_hidden++] = ~(u64)(uintptr_t)object;
	return object;
}

static planted_site int lose(void)
{
	struct planted_object *object = NULL, *first;
	unsigned int n, ring;

	for (n = 0; n < LOST; n++) {
		object = mark(planted_lost(), planted_is_lost);
		if (!object)
			return -ENOMEM;
	}
	planted_add(&planted_lost_how, object, LOST_SIZE, LOST, 0);
	for (ring = 0; ring < RINGS; ring++) {
		first = NULL;
		for (n = 0; n < IN_RING; n++) {
			object = mark(planted_ring(), planted_is_in_ring);
			if (!object)
				return -ENOMEM;
			INIT_LIST_HEAD(&object->list);
			if (first)
				list_add(&object->list, &first->list);
			else
				first = object;
		}
	}
	planted_add(&planted_ring_how, object, RING_SIZE, RINGS * IN_RING, 0);
	for (n = 0; n < LOST_LARGE; n++) {
		object = mark(planted_lost_large(), planted_is_large);
		if (!object)
			return -ENOMEM;
	}
	planted_add(&planted_lost_large_how, object, LARGE_SIZE, LOST_LARGE, 0);
	return 0;
}

/* Overwrite what the functions before left on the stack. */
planted_site void planted_scrub_stack(unsigned int depth)
{
	volatile u8 bytes[1024];
	unsigned int n;

	for (n = 0; n < sizeof(bytes); n++)
		bytes[n] = 0;
	if (depth)
		planted_scrub_stack(depth - 1);
	planted_keep(depth);
}

static int run_lose(void)
{
	int error = lose();

	planted_scrub_stack(3);
	return error;
}

/* Where references to the kept objects are. */
static LIST_HEAD(in_list);
static struct hlist_head *in_table;
static LLIST_HEAD(in_lockless);
static struct rb_root in_tree = RB_ROOT;
static DEFINE_XARRAY(in_xarray);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
static DEFINE_MTREE(in_maple);
#endif
static DEFINE_PER_CPU(void *[KEPT], in_percpu);
static void *__percpu *in_allocated_percpu;
static struct task_struct *thread;
static void **in_vmalloc;
static struct page *in_page;
static volatile unsigned long tagged[KEPT]; /* or the compiler drops what nobody reads */
static struct page *in_ring_page; /* physical addresses, in the last of four pages */
static struct scatterlist *in_scatterlist;
static struct bio_vec *in_vectors;
static struct planted_object *in_chain;
static void **in_array;

KIND(planted_kept_in_list)
static int by_list(struct planted_object *object, unsigned int n)
{
	list_add(&object->list, &in_list);
	return 0;
}

KIND(planted_kept_in_table)
static int by_table(struct planted_object *object, unsigned int n)
{
	hlist_add_head(&object->hash, &in_table[n % BUCKETS]);
	return 0;
}

KIND(planted_kept_in_lockless)
static int by_lockless(struct planted_object *object, unsigned int n)
{
	llist_add(&object->lockless, &in_lockless);
	return 0;
}

KIND(planted_kept_in_tree)
static int by_tree(struct planted_object *object, unsigned int n)
{
	struct rb_node **link = &in_tree.rb_node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = n & 1 ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&object->tree, parent, link);
	rb_insert_color(&object->tree, &in_tree);
	return 0;
}

KIND(planted_kept_in_xarray)
static int by_xarray(struct planted_object *object, unsigned int n)
{
	return xa_err(xa_store(&in_xarray, n, xa_tag_pointer(object, 1), GFP_KERNEL));
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
KIND(planted_kept_in_maple)
static int by_maple(struct planted_object *object, unsigned int n)
{
	return mtree_insert(&in_maple, 2 * n + 1, object, GFP_KERNEL);
}
#endif

KIND(planted_kept_in_percpu)
static int by_percpu(struct planted_object *object, unsigned int n)
{
	unsigned int cpu = n % 2 && cpu_online(1) ? 1 : 0;

	per_cpu(in_percpu, cpu)[n] = object;
	return 0;
}

KIND(planted_kept_in_allocated_percpu)
static int by_allocated_percpu(struct planted_object *object, unsigned int n)
{
	per_cpu_ptr(in_allocated_percpu, 0)[n] = object;
	return 0;
}

KIND(planted_kept_in_vmalloc)
static int by_vmalloc(struct planted_object *object, unsigned int n)
{
	in_vmalloc[n] = object;
	return 0;
}

KIND(planted_kept_in_page)
static int by_page(struct planted_object *object, unsigned int n)
{
	((void **)page_address(in_page))[n] = object;
	return 0;
}

KIND(planted_kept_tagged)
static int by_tag(struct planted_object *object, unsigned int n)
{
	tagged[n] = (unsigned long)object | (n & 7);
	return 0;
}

KIND(planted_kept_physical)
static int by_physical(struct planted_object *object, unsigned int n)
{
	((u64 *)page_address(in_ring_page + 3))[2 * n] = virt_to_phys(object);
	return 0;
}

KIND(planted_kept_in_scatterlist)
static int by_scatterlist(struct planted_object *object, unsigned int n)
{
	sg_set_buf(&in_scatterlist[n], object, KEPT_SIZE);
	return 0;
}

KIND(planted_kept_in_vector)
static int by_vector(struct planted_object *object, unsigned int n)
{
	in_vectors[n] = (struct bio_vec){ .bv_page = virt_to_page(object),
					  .bv_len = 64,
					  .bv_offset = offset_in_page(object) };
	return 0;
}

KIND(planted_kept_in_chain)
static int by_chain(struct planted_object *object, unsigned int n)
{
	object->next = in_chain;
	in_chain = object;
	return 0;
}

KIND(planted_kept_in_array)
static int by_array(struct planted_object *object, unsigned int n)
{
	in_array[n] = object;
	return 0;
}

static void fires(struct timer_list *timer)
{
}

KIND(planted_kept_by_timer)
static int by_timer(struct planted_object *object, unsigned int n)
{
	timer_setup(&object->timer, fires, 0);
	mod_timer(&object->timer, jiffies + (1 + n) * 3600 * HZ);
	return 0;
}

KIND(planted_kept_on_stack)
static int hold_on_stack(void *started)
{
	void *volatile objects[KEPT];
	unsigned int n;

	for (n = 0; n < KEPT; n++)
		objects[n] = mark(planted_kept(), planted_kept_on_stack);
	complete(started);
	while (!kthread_should_stop()) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!kthread_should_stop())
			schedule();
		__set_current_state(TASK_RUNNING);
	}
	for (n = 0; n < KEPT; n++)
		if (!objects[n])
			return -ENOMEM;
	return 0;
}

static const struct {
	void (*call)(void *object);
	int (*keep)(struct planted_object *object, unsigned int n);
} ways[] = {
	{ planted_kept_in_list, by_list },
	{ planted_kept_in_table, by_table },
	{ planted_kept_in_lockless, by_lockless },
	{ planted_kept_in_tree, by_tree },
	{ planted_kept_in_xarray, by_xarray },
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
	{ planted_kept_in_maple, by_maple },
#endif
	{ planted_kept_in_percpu, by_percpu },
	{ planted_kept_in_allocated_percpu, by_allocated_percpu },
	{ planted_kept_in_vmalloc, by_vmalloc },
	{ planted_kept_in_page, by_page },
	{ planted_kept_tagged, by_tag },
	{ planted_kept_physical, by_physical },
	{ planted_kept_in_scatterlist, by_scatterlist },
	{ planted_kept_in_vector, by_vector },
	{ planted_kept_in_chain, by_chain },
	{ planted_kept_in_array, by_array },
	{ planted_kept_by_timer, by_timer },
};

static int make_places(void)
{
	in_table = kcalloc(BUCKETS, sizeof(*in_table), GFP_KERNEL);
	in_allocated_percpu = __alloc_percpu(KEPT * sizeof(void *), sizeof(void *));
	in_vmalloc = vzalloc(KEPT * sizeof(void *));
	in_page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	in_ring_page = alloc_pages(GFP_KERNEL | __GFP_ZERO, 2);
	in_scatterlist = kcalloc(KEPT, sizeof(*in_scatterlist), GFP_KERNEL);
	in_vectors = kcalloc(KEPT, sizeof(*in_vectors), GFP_KERNEL);
	in_array = kcalloc(KEPT, sizeof(void *), GFP_KERNEL);
	if (!in_table || !in_allocated_percpu || !in_vmalloc || !in_page || !in_ring_page ||
	    !in_scatterlist || !in_vectors || !in_array)
		return -ENOMEM;
	sg_init_table(in_scatterlist, KEPT);
	return 0;
}

static int run_keep(void)
{
	DECLARE_COMPLETION_ONSTACK(started);
	struct planted_object *object = NULL;
	unsigned int way, n;
	int error;

	if (in_table)
		return -EBUSY;
	error = make_places();
	for (way = 0; way < ARRAY_SIZE(ways); way++)
		for (n = 0; n < KEPT && !error; n++) {
			object = mark(planted_kept(), ways[way].call);
			error = object ? ways[way].keep(object, n) : -ENOMEM;
		}
	if (error)
		return error;
	thread = kthread_run(hold_on_stack, &started, "planted_stack");
	if (IS_ERR(thread)) {
		error = PTR_ERR(thread);
		thread = NULL;
		return error;
	}
	wait_for_completion(&started);
	planted_add(&planted_kept_how, object, KEPT_SIZE, KEPT * (ARRAY_SIZE(ways) + 1), 0);
	return 0;
}

static void free_places(void)
{
	xa_destroy(&in_xarray);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
	mtree_destroy(&in_maple);
#endif
	INIT_LIST_HEAD(&in_list);
	init_llist_head(&in_lockless);
	in_tree = RB_ROOT;
	in_chain = NULL;
	kfree(in_table);
	in_table = NULL;
	free_percpu(in_allocated_percpu);
	in_allocated_percpu = NULL;
	vfree(in_vmalloc);
	in_vmalloc = NULL;
	if (in_page)
		__free_page(in_page);
	in_page = NULL;
	if (in_ring_page)
		__free_pages(in_ring_page, 2);
	in_ring_page = NULL;
	kfree(in_scatterlist);
	in_scatterlist = NULL;
	kfree(in_vectors);
	in_vectors = NULL;
	kfree(in_array);
	in_array = NULL;
}

static const struct planted_how *how_of(const struct planted_object *object, size_t *size)
{
	if (object->call == planted_is_lost) {
		*size = LOST_SIZE;
		return &planted_lost_how;
	}
	if (object->call == planted_is_in_ring) {
		*size = RING_SIZE;
		return &planted_ring_how;
	}
	if (object->call == planted_is_large) {
		*size = LARGE_SIZE;
		return &planted_lost_large_how;
	}
	*size = KEPT_SIZE;
	return &planted_kept_how;
}

void planted_orphans_free(void)
{
	const struct planted_how *how;
	struct planted_object *object;
	size_t size;

	if (thread)
		kthread_stop(thread);
	thread = NULL;
	while (nr_hidden) {
		object = (void *)(uintptr_t)~hidden[--nr_hidden];
		if (object->call == planted_kept_by_timer)
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
			timer_delete_sync(&object->timer);
#else
			del_timer_sync(&object->timer);
#endif
		how = how_of(object, &size);
		planted_add(how, object, size, 0, 1);
		kfree(object);
	}
	free_places();
}

const struct planted_scenario planted_orphans[] = {
	{ "orphans_lose", run_lose },
	{ "orphans_keep", run_keep },
	{},
};
