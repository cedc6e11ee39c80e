// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * slabmon's kernel side: the maps and the programs on them. One translation unit, because bcc
 * rewrites map accesses (`map.lookup()`) in the main file only.
 */
#include "layout.h"
#include "lanes.h"

#define BPF_F_MMAPABLE 1024

/*
 * Settings, then the gate: one byte-wide counter of tracked objects per hash of the address,
 * four to a word. Zero means not tracked: such frees leave at once. A counter grows after its
 * sample is stored and shrinks after it is deleted, by whoever did it, so none is ever lost.
 */
struct shared {
	struct control control;
	u32 gate[1 << (GATE_BITS - 2)];
};

struct stack {
	u64 frames[STACK_FRAMES];
};

struct tag_line {
	u64 tags[TAG_WAYS];
};

struct walk {
	struct walk_device device;
	struct walk_node nodes[WALK_NODES];
};

/*
 * bcc generates printing and parsing code for each element of a map's value type, which takes
 * seconds for an array of thousands of structs: large values are declared as bytes.
 */
#define BYTES_OF(type)                                                                             \
	struct type##_bytes {                                                                      \
		char bytes[sizeof(struct type)];                                                   \
	}
BYTES_OF(shared);
BYTES_OF(walk);
BYTES_OF(sample);
BYTES_OF(tag_line);
BYTES_OF(cache_record);
BYTES_OF(stack);
BYTES_OF(stack_total);

/*
 * The loader makes the constant NAME_value the address of what the map NAME holds
 * (BPF_PSEUDO_MAP_VALUE): no look-up. All lanes of a program are one value. Kernels that nest
 * programs allow none that large (4 MiB before 5.15): there each lane is one, and looked up.
 * `number` is below LANES.
 */
#define LANE(type, name, number) (struct type *)name##_value + number
#if NESTING > 1
#define LANE_VALUES LANES
typedef u32 lane_number;
#else
#define LANE_VALUES 1
typedef u64 lane_number;
#endif
struct alloc_lane_bytes {
	char bytes[LANES / LANE_VALUES * sizeof(struct alloc_lane)];
};
struct free_lane_bytes {
	char bytes[LANES / LANE_VALUES * sizeof(struct free_lane)];
};

BPF_F_TABLE("array", u32, struct shared_bytes, shared, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct alloc_lane_bytes, kmalloc_lanes, LANE_VALUES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct alloc_lane_bytes, cache_alloc_lanes, LANE_VALUES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct free_lane_bytes, kfree_lanes, LANE_VALUES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct free_lane_bytes, cache_free_lanes, LANE_VALUES, BPF_F_MMAPABLE);
/* Tracked objects: the records, and what finds their places (pool.h). */
BPF_F_TABLE("array", u32, struct sample_bytes, pool, PLACES, BPF_F_MMAPABLE);
#if TAGS
BPF_F_TABLE("array", u32, struct tag_line_bytes, tags, TAG_LINES, BPF_F_MMAPABLE);
#else
BPF_TABLE("hash", u64, u32, samples, SAMPLES);
BPF_STACK(free_places, u32, SAMPLES);
#endif
BPF_TABLE("hash", u64, struct cache_record_bytes, caches, CACHES);
BPF_TABLE("hash", u64, u64, unobserved_frees, CACHES);
#if STACKS
BPF_TABLE("stacktrace", int, struct stack_bytes, stacks, STACKS);
/* By number of the stack; the last one is of all without a stack. */
BPF_F_TABLE("array", u32, struct stack_total_bytes, stack_totals, STACK_IDS + 1, BPF_F_MMAPABLE);
#endif
#if PAGES
BPF_F_TABLE("array", u32, struct alloc_lane_bytes, page_alloc_lanes, LANE_VALUES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct free_lane_bytes, page_free_lanes, LANE_VALUES, BPF_F_MMAPABLE);
#endif
#if BULK_ALLOC
BPF_F_TABLE("array", u32, struct alloc_lane_bytes, bulk_alloc_lanes, LANE_VALUES, BPF_F_MMAPABLE);
BPF_PROG_ARRAY(bulk_alloc_next, 1);
#endif
#if BULK_FREE
BPF_F_TABLE("array", u32, struct free_lane_bytes, bulk_free_lanes, LANE_VALUES, BPF_F_MMAPABLE);
BPF_PROG_ARRAY(bulk_free_next, 1);
#endif
#if RCU_SHEAVES
BPF_F_TABLE("array", u32, struct free_lane_bytes, rcu_free_lanes, LANE_VALUES, BPF_F_MMAPABLE);
#endif
BPF_RINGBUF_OUTPUT(events, EVENT_PAGES);
BPF_F_TABLE("array", u32, struct walk_bytes, walks, 1, BPF_F_MMAPABLE);

static __always_inline struct shared *get_shared(void)
{
	return (struct shared *)shared_value;
}

static __always_inline struct walk *get_walk(void)
{
	return (struct walk *)walks_value;
}

/*
 * The body of a counting program: finds its lane on this CPU and has it counted there. Kernels
 * without a recursion guard nest a program in itself: each level has its own lane.
 */
#if NESTING > 1
#define COUNT_IN(type, lane_of, count)                                                             \
	u32 index = bpf_get_smp_processor_id() * NESTING;                                          \
	struct type *lane, *home = lane_of(index);                                                 \
	struct shared *all = get_shared();                                                         \
	u64 depth;                                                                                 \
	if (!home)                                                                                 \
		return 0;                                                                          \
	depth = *(volatile u64 *)&home->head.depth;                                                \
	if (depth >= NESTING) {                                                                    \
		__sync_fetch_and_add(&home->head.lost[LOST_NESTING], 1);                           \
		return 0;                                                                          \
	}                                                                                          \
	*(volatile u64 *)&home->head.depth = depth + 1;                                            \
	lane = lane_of(index + (u32)depth);                                                        \
	if (lane)                                                                                  \
		count;                                                                             \
	*(volatile u64 *)&home->head.depth = depth;                                                \
	return 0
#else
#define COUNT_IN(type, lane_of, count)                                                             \
	u64 cpu = bpf_get_smp_processor_id();                                                      \
	struct shared *all = get_shared();                                                         \
	struct type *lane;                                                                         \
	if (unlikely(cpu >= LANES))                                                                \
		return 0;                                                                          \
	lane = lane_of(cpu);                                                                       \
	keep(lane);                                                                                \
	count;                                                                                     \
	return 0
#endif

static __always_inline struct alloc_lane *kmalloc_lane(lane_number number)
{
	return NESTING > 1 ? (void *)kmalloc_lanes.lookup(&number)
	                   : LANE(alloc_lane, kmalloc_lanes, number);
}

static __always_inline struct alloc_lane *cache_alloc_lane(lane_number number)
{
	return NESTING > 1 ? (void *)cache_alloc_lanes.lookup(&number)
	                   : LANE(alloc_lane, cache_alloc_lanes, number);
}

static __always_inline struct free_lane *kfree_lane(lane_number number)
{
	return NESTING > 1 ? (void *)kfree_lanes.lookup(&number)
	                   : LANE(free_lane, kfree_lanes, number);
}

static __always_inline struct free_lane *cache_free_lane(lane_number number)
{
	return NESTING > 1 ? (void *)cache_free_lanes.lookup(&number)
	                   : LANE(free_lane, cache_free_lanes, number);
}

#if BULK_ALLOC
static __always_inline struct alloc_lane *bulk_alloc_lane(lane_number number)
{
	return NESTING > 1 ? (void *)bulk_alloc_lanes.lookup(&number)
	                   : LANE(alloc_lane, bulk_alloc_lanes, number);
}

static __always_inline void bulk_alloc_again(struct bpf_raw_tracepoint_args *ctx)
{
	bulk_alloc_next.call(ctx, 0);
}
#endif

#if BULK_FREE
static __always_inline struct free_lane *bulk_free_lane(lane_number number)
{
	return NESTING > 1 ? (void *)bulk_free_lanes.lookup(&number)
	                   : LANE(free_lane, bulk_free_lanes, number);
}

static __always_inline void bulk_free_again(struct bpf_raw_tracepoint_args *ctx)
{
	bulk_free_next.call(ctx, 0);
}
#endif

#if RCU_SHEAVES
static __always_inline struct free_lane *rcu_free_lane(lane_number number)
{
	return NESTING > 1 ? (void *)rcu_free_lanes.lookup(&number)
	                   : LANE(free_lane, rcu_free_lanes, number);
}
#endif

/* Map accesses: everything the headers below need of bcc's rewriter. */

static __always_inline struct sample *sample_at(u32 place)
{
	return (void *)pool.lookup(&place);
}

#if TAGS
static __always_inline struct tag_line *tag_line(u32 number)
{
	return (void *)tags.lookup(&number);
}
#else
static __always_inline u32 *hashed_place(u64 address)
{
	return samples.lookup(&address);
}

static __always_inline long hash_place(u64 address, u32 place)
{
	return samples.insert(&address, &place);
}

static __always_inline long unhash_place(u64 address)
{
	return samples.delete(&address);
}

static __always_inline long pop_place(u32 *place)
{
	return free_places.pop(place);
}

static __always_inline long push_place(u32 place)
{
	return free_places.push(&place, 0);
}
#endif

static __always_inline bool is_known_cache(u64 key)
{
	return caches.lookup(&key) != 0;
}

static __always_inline long keep_cache(u64 key, struct cache_record *record)
{
	return caches.update(&key, (struct cache_record_bytes *)record);
}

static __always_inline long note_unobserved_free(u64 cache)
{
	u64 one = 1, *count = unobserved_frees.lookup(&cache);

	if (!count)
		return unobserved_frees.insert(&cache, &one);
	__sync_fetch_and_add(count, 1);
	return 0;
}

static __always_inline struct stack_total *stack_total(u32 number)
{
#if STACKS
	return (void *)stack_totals.lookup(&number);
#else
	return 0;
#endif
}

static __always_inline s32 stack_id(struct bpf_raw_tracepoint_args *ctx)
{
#if STACKS
	return stacks.get_stackid(ctx, 0);
#else
	return -1;
#endif
}

#include "kernel.h"
#include "vmemmap.h"
#include "sampling.h"
#include "pool.h"
#include "tracking.h"
#include "counting.h"
#include "bulk.h"
#include "devices.h"

int on_kmalloc(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(alloc_lane, kmalloc_lane, count_kmalloc(ctx, all, lane, ARG_KMALLOC_NODE));
}

int on_kmem_cache_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(alloc_lane, cache_alloc_lane,
	         count_cache_alloc(ctx, all, lane, ARG_CACHE_ALLOC_NODE));
}

int on_kfree(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(free_lane, kfree_lane, count_object_free(all, lane, ctx->args[1]));
}

int on_kmem_cache_free(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(free_lane, cache_free_lane, count_cache_free(ctx, all, lane));
}

#if NODE_EVENTS /* as the events without _node, and the node behind the flags */
int on_kmalloc_node(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(alloc_lane, kmalloc_lane, count_kmalloc(ctx, all, lane, ARG_KMALLOC_GFP + 1));
}

int on_kmem_cache_alloc_node(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(alloc_lane, cache_alloc_lane,
	         count_cache_alloc(ctx, all, lane, ARG_CACHE_ALLOC_GFP + 1));
}
#endif

/* Attached to functions (fentry, fexit), whose arguments they find as tracepoint programs do. */
#if BULK_ALLOC
int on_bulk_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(alloc_lane, bulk_alloc_lane, count_bulk_alloc(ctx, all, lane));
}
#endif

#if BULK_FREE
int on_bulk_free(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(free_lane, bulk_free_lane, count_bulk_free(ctx, all, lane));
}
#endif

#if RCU_SHEAVES
int on_rcu_free(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(free_lane, rcu_free_lane, count_rcu_free(ctx, all, lane));
}
#endif

#if PAGES
static __always_inline struct alloc_lane *page_alloc_lane(lane_number number)
{
	return NESTING > 1 ? (void *)page_alloc_lanes.lookup(&number)
	                   : LANE(alloc_lane, page_alloc_lanes, number);
}

static __always_inline struct free_lane *page_free_lane(lane_number number)
{
	return NESTING > 1 ? (void *)page_free_lanes.lookup(&number)
	                   : LANE(free_lane, page_free_lanes, number);
}

int on_mm_page_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(alloc_lane, page_alloc_lane,
	         count_page_alloc(lane, ctx->args[0], ctx->args[1], ctx->args[2]));
}

int on_mm_page_free(struct bpf_raw_tracepoint_args *ctx)
{
	COUNT_IN(free_lane, page_free_lane, count_page_free(lane, ctx->args[1]));
}
#endif

#if DEVRES_LOG
int on_devres_log(struct bpf_raw_tracepoint_args *ctx)
{
	struct shared *all = get_shared();
	struct devres_event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event) {
		__sync_fetch_and_add(&all->control.events_lost, 1);
		return 0;
	}
	fill_devres_event(all, event, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3],
	                  ctx->args[4], &event->cache);
	events.ringbuf_submit(event, 0);
	return 0;
}
#endif

#if MODULES
static __always_inline int module_changed(u32 kind, u64 module)
{
	struct shared *all = get_shared();
	struct module_event *event;
	u32 generation;

	__sync_fetch_and_add(&all->control.module_generation, 1);
	generation = all->control.module_generation;
	stamp_module(all, module, generation);
	event = events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		__sync_fetch_and_add(&all->control.events_lost, 1);
		return 0;
	}
	fill_module_event(event, kind, module, generation);
	events.ringbuf_submit(event, 0);
	return 0;
}

int on_module_load(struct bpf_raw_tracepoint_args *ctx)
{
	return module_changed(EVENT_MODULE_LOAD, ctx->args[0]);
}

int on_module_free(struct bpf_raw_tracepoint_args *ctx)
{
	return module_changed(EVENT_MODULE_FREE, ctx->args[0]);
}
#endif

#if CACHE_BY_PAGE
/* Run by the daemon before anything is attached; args: the address of 64 bits that it asks for. */
int peek(struct bpf_raw_tracepoint_args *ctx)
{
	get_shared()->control.peeked = read_u64(ctx->args[0]);
	return 0;
}
#endif

#if SHORT_WAY
/* Run by the daemon before anything is attached; args: see find_page_base(). */
int find_pages(struct bpf_raw_tracepoint_args *ctx)
{
	find_page_base(&get_shared()->control, bpf_get_current_task(), ctx->args[0],
	               &get_walk()->device.scratch);
	return 0;
}
#endif

#if !TAGS
/* Run by the daemon before anything is attached: args: first of POOL_STEP free places. */
int fill_pool(struct bpf_raw_tracepoint_args *ctx)
{
	u32 first = ctx->args[0];

	for (int i = POOL_STEP - 1; i >= 0; i--)
		give_place_back(first + i);
	return 0;
}
#endif

/* Run by the daemon, not attached: one device a call; args: device, cursor. */
int walk_devices(struct bpf_raw_tracepoint_args *ctx)
{
	struct walk *walk = get_walk();

	walk_step(get_shared(), walk, ctx->args[0], ctx->args[1], &walk->device.scratch);
	return 0;
}

/* Attached for an instant: any packet sent names a network device, the way in to all devices. */
int on_net_dev_queue(struct bpf_raw_tracepoint_args *ctx)
{
	u64 net_device = read_u64(ctx->args[0] + OFF_SKB_DEV);

	if (net_device)
		get_walk()->device.next = net_device + OFF_NET_DEVICE_DEV;
	return 0;
}
