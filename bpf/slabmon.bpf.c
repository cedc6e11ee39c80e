// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * slabmon's kernel side: the maps and the programs on them. One translation unit, because bcc
 * rewrites map accesses (`map.lookup()`) in the main file only, and not inside macros.
 */
#include "include/linux/errno.h"
#include "compiler.h"
#include "layout.h"
#include "lanes.h"

#define BPF_F_MMAPABLE   1024
#define BPF_RB_NO_WAKEUP 1 /* the daemon does not wait for records */

/*
 * Settings, then the filter: a counting Bloom filter with one hash. It holds a byte-wide
 * counter of tracked objects per hash of the address, four to a word. Zero means not tracked:
 * such frees leave at once. A counter grows after its sample is stored and shrinks after it is
 * deleted, each by the program that did it, so that no tracked object is ever missed.
 */
struct shared {
	struct control control;
	u32 filter[1 << (NR_FILTER_BITS - 2)];
};

struct stack {
	u64 frames[NR_STACK_FRAMES];
};

struct tag_line {
	u64 tags[TAG_WAYS];
};

struct process_marks {
	u8 marks[PROCESS_MARKS];
};

#if HAVE_PAGE_SITES
/* A counting Bloom filter of tracked pages, as the one of struct shared. */
struct block_filter {
	u32 counters[1 << (NR_BLOCK_FILTER_BITS - 2)];
};
#endif

struct walk {
	struct walk_device device;
	struct walk_node nodes[WALK_NODES];
};

/*
 * All lanes of a program are one map value. Kernels that nest programs allow none that large
 * (4 MiB before 5.15): there each lane is a value.
 */
#define NR_LANE_VALUES (NR_NESTING > 1 ? NR_LANES : 1)

/*
 * bcc generates printing and parsing code for each element of a map's value type, which takes
 * seconds for an array of thousands of structs: large values are declared as bytes.
 */
#define DEFINE_BYTES(type, number)                                                                 \
	struct type##_bytes {                                                                      \
		char bytes[(number) * sizeof(struct type)];                                        \
	}
DEFINE_BYTES(shared, 1);
DEFINE_BYTES(walk, 1);
DEFINE_BYTES(sample, 1);
DEFINE_BYTES(tag_line, 1);
DEFINE_BYTES(process_marks, 1);
DEFINE_BYTES(cache_record, 1);
#if HAVE_DRIVER_PROBES
DEFINE_BYTES(driver_probe, 1);
#endif
#if HAVE_DMA
DEFINE_BYTES(dma_device, 1);
DEFINE_BYTES(dma_block, 1);
#endif
DEFINE_BYTES(stack, 1);
DEFINE_BYTES(stack_total, 1);
#if HAVE_BLOCKS
DEFINE_BYTES(call_path, 1);
DEFINE_BYTES(block, 1);
#endif
#if HAVE_PAGE_SITES
DEFINE_BYTES(block_filter, 1);
#endif
DEFINE_BYTES(alloc_lane, NR_LANES / NR_LANE_VALUES);
DEFINE_BYTES(free_lane, NR_LANES / NR_LANE_VALUES);

/*
 * The lanes of one program: the map NAME_lanes; NAME_lane(number), where `number` is below
 * NR_LANES; and enter_NAME(), which sets this CPU's lane, or returns false if the event is to
 * be dropped. leave() ends what it began.
 *
 * The loader makes two constants for each map: MAP_value is the address of its first value
 * (BPF_PSEUDO_MAP_VALUE), which takes no look-up, and MAP_map the map itself
 * (BPF_PSEUDO_MAP_FD), for macros and headers, where bcc does not rewrite map accesses.
 */
#if NR_NESTING > 1
#define DEFINE_LANES(name, type)                                                                   \
	BPF_F_TABLE("array", u32, struct type##_bytes, name##_lanes, NR_LANE_VALUES,               \
	            BPF_F_MMAPABLE);                                                               \
                                                                                                   \
	static __always_inline struct type *name##_lane(u32 number)                                \
	{                                                                                          \
		return bpf_map_lookup_elem((void *)name##_lanes_map, &number);                     \
	}                                                                                          \
                                                                                                   \
	static __always_inline bool enter_##name(struct nesting *nesting, struct type **lane)      \
	{                                                                                          \
		u32 number = bpf_get_smp_processor_id() * NR_NESTING;                              \
		struct type *home = name##_lane(number);                                           \
                                                                                                   \
		if (!home || !nest(nesting, &home->head))                                          \
			return false;                                                              \
		*lane = name##_lane(number + (u32)nesting->depth);                                 \
		if (!*lane)                                                                        \
			leave(nesting);                                                            \
		return *lane;                                                                      \
	}
#else
#define DEFINE_LANES(name, type)                                                                   \
	BPF_F_TABLE("array", u32, struct type##_bytes, name##_lanes, NR_LANE_VALUES,               \
	            BPF_F_MMAPABLE);                                                               \
                                                                                                   \
	static __always_inline struct type *name##_lane(u64 number)                                \
	{                                                                                          \
		return (struct type *)name##_lanes_value + number;                                 \
	}                                                                                          \
                                                                                                   \
	static __always_inline bool enter_##name(struct nesting *nesting, struct type **lane)      \
	{                                                                                          \
		u64 cpu = bpf_get_smp_processor_id();                                              \
                                                                                                   \
		if (unlikely(cpu >= NR_LANES))                                                     \
			return false;                                                              \
		*lane = name##_lane(cpu);                                                          \
		barrier_var(*lane);                                                                \
		return true;                                                                       \
	}
#endif

/* The counting programs, at the end of this file, each with its lanes. */
DEFINE_LANES(kmalloc, alloc_lane)
DEFINE_LANES(cache_alloc, alloc_lane)
DEFINE_LANES(kfree, free_lane)
DEFINE_LANES(cache_free, free_lane)
#if HAVE_BULK_ALLOC
DEFINE_LANES(bulk_alloc, alloc_lane)
BPF_PROG_ARRAY(bulk_alloc_next, 1);
#endif
#if HAVE_BULK_FREE
DEFINE_LANES(bulk_free, free_lane)
BPF_PROG_ARRAY(bulk_free_next, 1);
#endif
#if HAVE_RCU_SHEAVES
DEFINE_LANES(rcu_free, free_lane)
#endif
#if HAVE_PAGES
DEFINE_LANES(page_alloc, alloc_lane)
DEFINE_LANES(page_free, free_lane)
#endif

BPF_F_TABLE("array", u32, struct shared_bytes, shared, 1, BPF_F_MMAPABLE);
/* Tracked objects: the records, and what finds their pool index (pool.h). */
BPF_F_TABLE("array", u32, struct sample_bytes, pool, NR_POOL, BPF_F_MMAPABLE);
#if HAVE_TAGS
BPF_F_TABLE("array", u32, struct tag_line_bytes, tags, NR_TAG_LINES, BPF_F_MMAPABLE);
#else
BPF_TABLE("hash", u64, u32, samples, NR_SAMPLES);
BPF_STACK(free_indices, u32, NR_SAMPLES);
#endif
BPF_TABLE("hash", u64, struct cache_record_bytes, caches, NR_CACHES);
BPF_TABLE("hash", u64, u64, unobserved_frees, NR_CACHES);
#if HAVE_STACKS
BPF_TABLE("stacktrace", int, struct stack_bytes, stacks, NR_STACKS);
/* By stack id; the last one is of all allocations without a stack. */
BPF_F_TABLE("array", u32, struct stack_total_bytes, stack_totals, NR_STACK_IDS + 1, BPF_F_MMAPABLE);
#endif
#if HAVE_PROCESS_TREE
BPF_F_TABLE("array", u32, struct process_marks_bytes, process_marks, PROCESS_IDS / PROCESS_MARKS,
            BPF_F_MMAPABLE);
#endif
#if HAVE_DRIVER_PROBES
/* By number; and the number of the probe that a task is in, by its thread id. */
BPF_TABLE("hash", u32, struct driver_probe_bytes, driver_probes, DRIVER_PROBES);
BPF_TABLE("hash", u32, u32, probing, DRIVER_PROBES);
#endif
#if HAVE_BLOCKS
/* Pages and per-CPU memory (blocks.h). */
BPF_TABLE("hash", u64, struct call_path_bytes, paths, NR_PATHS);
#endif
#if HAVE_PAGE_SITES
BPF_TABLE("hash", u64, struct block_bytes, page_blocks, NR_PAGE_BLOCKS);
BPF_F_TABLE("array", u32, struct block_filter_bytes, block_filter, 1, BPF_F_MMAPABLE);
#endif
#if HAVE_PERCPU
BPF_TABLE("hash", u64, struct block_bytes, percpu_blocks, NR_PERCPU_BLOCKS);
#endif
#if HAVE_DMA
/* DMA memory (dma.h): devices by the hash of their names, and what is known by its address. */
BPF_TABLE("hash", u64, struct dma_device_bytes, dma_devices, DMA_DEVICES);
BPF_TABLE("hash", u64, struct dma_block_bytes, dma_blocks, NR_DMA_BLOCKS);
#endif
BPF_RINGBUF_OUTPUT(events, NR_EVENT_PAGES);
#if HAVE_STACK_COPIES
BPF_RINGBUF_OUTPUT(stack_copies, NR_STACK_COPY_PAGES);
#endif
BPF_F_TABLE("array", u32, struct walk_bytes, walks, 1, BPF_F_MMAPABLE);

static __always_inline struct shared *get_shared(void)
{
	return (struct shared *)shared_value;
}

static __always_inline struct walk *get_walk(void)
{
	return (struct walk *)walks_value;
}

/* Map accesses: everything that the headers below need of bcc's rewriter. */

#if HAVE_BULK_ALLOC
static __always_inline void bulk_alloc_again(struct bpf_raw_tracepoint_args *ctx)
{
	bulk_alloc_next.call(ctx, 0);
}
#endif

#if HAVE_BULK_FREE
static __always_inline void bulk_free_again(struct bpf_raw_tracepoint_args *ctx)
{
	bulk_free_next.call(ctx, 0);
}
#endif

static __always_inline struct sample *sample_at(u32 index)
{
	return (void *)pool.lookup(&index);
}

#if HAVE_TAGS
static __always_inline struct tag_line *tag_line(u32 number)
{
	return (void *)tags.lookup(&number);
}
#else
static __always_inline u32 *hashed_index(u64 address)
{
	return samples.lookup(&address);
}

static __always_inline long hash_index(u64 address, u32 index)
{
	return samples.insert(&address, &index);
}

static __always_inline long unhash_index(u64 address)
{
	return samples.delete(&address);
}

static __always_inline long pop_index(u32 *index)
{
	return free_indices.pop(index);
}

static __always_inline long push_index(u32 index)
{
	return free_indices.push(&index, 0);
}
#endif

static __always_inline bool is_known_cache(u64 key)
{
	return caches.lookup(&key) != 0;
}

static __always_inline long store_cache(u64 key, struct cache_record *record)
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

static __always_inline struct stack_total *stack_total(u32 stack)
{
#if HAVE_STACKS
	return (void *)stack_totals.lookup(&stack);
#else
	return 0;
#endif
}

#if HAVE_PROCESS_TREE
static __always_inline struct process_marks *process_marks_of(u32 number)
{
	return (void *)process_marks.lookup(&number);
}
#endif

#if HAVE_DRIVER_PROBES
static __always_inline struct driver_probe *find_probe(u32 number)
{
	return (void *)driver_probes.lookup(&number);
}

static __always_inline long add_probe(u32 number, struct driver_probe *probe)
{
	return driver_probes.insert(&number, (struct driver_probe_bytes *)probe);
}

static __always_inline u32 *probe_of_task(u32 task)
{
	return probing.lookup(&task);
}

static __always_inline long set_probe_of_task(u32 task, u32 number)
{
	return number ? probing.update(&task, &number) : probing.delete(&task);
}
#endif

#if HAVE_STACK_COPIES
static __always_inline struct stack_copy *reserve_stack_copy(void)
{
	return stack_copies.ringbuf_reserve(sizeof(struct stack_copy));
}

static __always_inline void submit_stack_copy(struct stack_copy *copy)
{
	stack_copies.ringbuf_submit(copy, BPF_RB_NO_WAKEUP);
}
#endif

static __always_inline s32 stack_id(struct bpf_raw_tracepoint_args *ctx)
{
#if HAVE_STACKS
	return stacks.get_stackid(ctx, 0);
#else
	return -1;
#endif
}

#if HAVE_BLOCKS
static __always_inline struct call_path *find_path(u64 hash)
{
	return (void *)paths.lookup(&hash);
}

static __always_inline long add_path(u64 hash, struct call_path *path)
{
	return paths.insert(&hash, (struct call_path_bytes *)path);
}
#endif

#if HAVE_PAGE_SITES
static __always_inline struct block *find_page_block(u64 page)
{
	return (void *)page_blocks.lookup(&page);
}

static __always_inline long add_page_block(u64 page, struct block *block)
{
	return page_blocks.insert(&page, (struct block_bytes *)block);
}

static __always_inline long remove_page_block(u64 page)
{
	return page_blocks.delete(&page);
}
#endif

#if HAVE_PERCPU
static __always_inline struct block *find_percpu_block(u64 pointer)
{
	return (void *)percpu_blocks.lookup(&pointer);
}

static __always_inline long add_percpu_block(u64 pointer, struct block *block)
{
	return percpu_blocks.insert(&pointer, (struct block_bytes *)block);
}

static __always_inline long remove_percpu_block(u64 pointer)
{
	return percpu_blocks.delete(&pointer);
}
#endif

#if HAVE_DMA
static __always_inline struct dma_device *find_dma_device(u64 hash)
{
	return (void *)dma_devices.lookup(&hash);
}

static __always_inline long add_dma_device(u64 hash, struct dma_device *device)
{
	return dma_devices.insert(&hash, (struct dma_device_bytes *)device);
}

static __always_inline struct dma_block *find_dma_block(u64 address)
{
	return (void *)dma_blocks.lookup(&address);
}

static __always_inline long add_dma_block(u64 address, struct dma_block *block)
{
	return dma_blocks.insert(&address, (struct dma_block_bytes *)block);
}

static __always_inline long remove_dma_block(u64 address)
{
	return dma_blocks.delete(&address);
}
#endif

#include "kernel.h"
#include "vmemmap.h"
#include "sampling.h"
#include "pool.h"
#include "processes.h"
#include "probes.h"
#include "stack_copies.h"
#include "tracking.h"
#include "counting.h"
#include "bulk.h"
#include "blocks.h"
#include "devices.h"
#include "dma.h"

int on_kmalloc(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct alloc_lane *lane;

	if (!enter_kmalloc(&nesting, &lane))
		return 0;
	count_kmalloc(ctx, get_shared(), lane, ARG_KMALLOC_NODE);
	leave(&nesting);
	return 0;
}

int on_kmem_cache_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct alloc_lane *lane;

	if (!enter_cache_alloc(&nesting, &lane))
		return 0;
	count_cache_alloc(ctx, get_shared(), lane, ARG_CACHE_ALLOC_NODE);
	leave(&nesting);
	return 0;
}

int on_kfree(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct free_lane *lane;

	if (!enter_kfree(&nesting, &lane))
		return 0;
	count_object_free(get_shared(), lane, ctx->args[1]);
	leave(&nesting);
	return 0;
}

int on_kmem_cache_free(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct free_lane *lane;

	if (!enter_cache_free(&nesting, &lane))
		return 0;
	count_cache_free(ctx, get_shared(), lane);
	leave(&nesting);
	return 0;
}

/*
 * The events of kernels before 11e9734bcb6a "mm/slab_common: unify NUMA and UMA version of
 * tracepoints" (6.1): as those without _node, with the node behind the flags.
 */
#if HAVE_NODE_EVENTS
int on_kmalloc_node(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct alloc_lane *lane;

	if (!enter_kmalloc(&nesting, &lane))
		return 0;
	count_kmalloc(ctx, get_shared(), lane, ARG_KMALLOC_GFP + 1);
	leave(&nesting);
	return 0;
}

int on_kmem_cache_alloc_node(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct alloc_lane *lane;

	if (!enter_cache_alloc(&nesting, &lane))
		return 0;
	count_cache_alloc(ctx, get_shared(), lane, ARG_CACHE_ALLOC_GFP + 1);
	leave(&nesting);
	return 0;
}
#endif

/* Attached to functions (fentry, fexit), whose arguments they find as tracepoint programs do. */
#if HAVE_BULK_ALLOC
int on_bulk_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct alloc_lane *lane;

	if (!enter_bulk_alloc(&nesting, &lane))
		return 0;
	count_bulk_alloc(ctx, get_shared(), lane);
	leave(&nesting);
	return 0;
}
#endif

#if HAVE_BULK_FREE
int on_bulk_free(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct free_lane *lane;

	if (!enter_bulk_free(&nesting, &lane))
		return 0;
	count_bulk_free(ctx, get_shared(), lane);
	leave(&nesting);
	return 0;
}
#endif

#if HAVE_RCU_SHEAVES
int on_rcu_free(struct bpf_raw_tracepoint_args *ctx)
{
	struct nesting nesting;
	struct free_lane *lane;

	if (!enter_rcu_free(&nesting, &lane))
		return 0;
	count_rcu_free(ctx, get_shared(), lane);
	leave(&nesting);
	return 0;
}
#endif

#if HAVE_PAGE_SITES
int on_mm_page_alloc(struct bpf_raw_tracepoint_args *ctx)
{
#if HAVE_PAGES
	struct nesting nesting;
	struct alloc_lane *lane;

	if (enter_page_alloc(&nesting, &lane)) {
		count_page_alloc(lane, ctx->args[0], ctx->args[1], ctx->args[2]);
		leave(&nesting);
	}
#endif
	page_allocated(ctx);
	return 0;
}

int on_mm_page_free(struct bpf_raw_tracepoint_args *ctx)
{
#if HAVE_PAGES
	struct nesting nesting;
	struct free_lane *lane;

	if (enter_page_free(&nesting, &lane)) {
		count_page_free(lane, ctx->args[1]);
		leave(&nesting);
	}
#endif
	page_freed(get_shared(), ctx->args[0], ctx->args[1]);
	return 0;
}
#endif

#if HAVE_PERCPU
int on_percpu_alloc_percpu(struct bpf_raw_tracepoint_args *ctx)
{
	percpu_event(ctx, ctx->args[ARG_PERCPU_SIZE], ctx->args[ARG_PERCPU_POINTER]);
	return 0;
}

int on_percpu_alloc_percpu_fail(struct bpf_raw_tracepoint_args *ctx)
{
	percpu_event(ctx, ctx->args[2], 0);
	return 0;
}

int on_percpu_free_percpu(struct bpf_raw_tracepoint_args *ctx)
{
	percpu_freed(ctx->args[2]);
	return 0;
}
#endif

#if HAVE_PROCESS_TREE
int on_process_fork(struct bpf_raw_tracepoint_args *ctx)
{
	process_started(ctx->args[1]);
	return 0;
}
#endif

/* Attached to the function that calls drivers' probe functions: its entry, and its exit. */
#if HAVE_DRIVER_PROBES
int on_driver_probe(struct bpf_raw_tracepoint_args *ctx)
{
	probe_begins(get_shared(), ctx->args[0], ctx->args[1]);
	return 0;
}

int on_driver_probe_end(struct bpf_raw_tracepoint_args *ctx)
{
	probe_ends(get_shared(), ctx->args[0]);
	return 0;
}
#endif

#if HAVE_DEVRES_LOG
int on_devres_log(struct bpf_raw_tracepoint_args *ctx)
{
	struct shared *shared = get_shared();
	struct devres_event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event) {
		__sync_fetch_and_add(&shared->control.events_lost, 1);
		return 0;
	}
	fill_devres_event(shared, event, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3],
	                  ctx->args[4], &event->cache);
	events.ringbuf_submit(event, 0);
	return 0;
}
#endif

#if HAVE_DMA
int on_dma_alloc(struct bpf_raw_tracepoint_args *ctx)
{
	dma_allocated(get_shared(), ctx->args[0], ctx->args[1], ctx->args[3]);
	return 0;
}

int on_dma_free(struct bpf_raw_tracepoint_args *ctx)
{
	dma_freed(get_shared(), ctx->args[0], ctx->args[1], ctx->args[3]);
	return 0;
}
#endif

#if HAVE_DMA_PAGES
int on_dma_alloc_pages(struct bpf_raw_tracepoint_args *ctx)
{
	dma_allocated(get_shared(), ctx->args[0], ctx->args[1], ctx->args[3]);
	return 0;
}

int on_dma_free_pages(struct bpf_raw_tracepoint_args *ctx)
{
	dma_freed(get_shared(), ctx->args[0], ctx->args[1], ctx->args[3]);
	return 0;
}

/* Memory that is not contiguous is known by the address of its struct sg_table. */
int on_dma_alloc_sgt(struct bpf_raw_tracepoint_args *ctx)
{
	dma_allocated(get_shared(), ctx->args[0], ctx->args[1], ctx->args[2]);
	return 0;
}

int on_dma_alloc_sgt_err(struct bpf_raw_tracepoint_args *ctx)
{
	dma_allocated(get_shared(), ctx->args[0], 0, 0);
	return 0;
}

int on_dma_free_sgt(struct bpf_raw_tracepoint_args *ctx)
{
	dma_freed(get_shared(), ctx->args[0], ctx->args[1], ctx->args[2]);
	return 0;
}
#endif

#if HAVE_MODULES
/* The filter of exact mode follows its module, whose init function is called right after this. */
static __always_inline void follow_exact_module(struct shared *shared, u32 kind, u64 module)
{
#if HAVE_EXACT_MODULE
	u64 words[8] = {};
	u64 *text = shared->control.exact_site;
	bool load = kind == EVENT_MODULE_LOAD;

	bpf_probe_read_kernel_str(words, sizeof(words), (void *)(module + OFF_MODULE_NAME));
	if (name_hash(words) != EXACT_MODULE)
		return;
	text[0] = load ? read_u64(module + OFF_MODULE_BASE) : 0;
	text[1] = load ? text[0] + read_u32(module + OFF_MODULE_BYTES) : 0;
	text[2] = load ? read_u64(module + OFF_MODULE_INIT_BASE) : 0;
	text[3] = load ? text[2] + read_u32(module + OFF_MODULE_INIT_BYTES) : 0;
#endif
}

static __always_inline int module_changed(u32 kind, u64 module)
{
	struct shared *shared = get_shared();
	struct module_event *event;
	u32 generation;

	__sync_fetch_and_add(&shared->control.module_generation, 1);
	generation = shared->control.module_generation;
	stamp_module(shared, module, generation);
	follow_exact_module(shared, kind, module);
	event = events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		__sync_fetch_and_add(&shared->control.events_lost, 1);
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

#if HAVE_CACHE_BY_PAGE
/* Run by the daemon before anything is attached; args: the address of a word. */
int read_word(struct bpf_raw_tracepoint_args *ctx)
{
	get_shared()->control.word = read_u64(ctx->args[0]);
	return 0;
}
#endif

#if HAVE_PAGE_LOOKUP_INLINE
/* Run by the daemon before anything is attached; args: see probe_page_base(). */
int locate_vmemmap(struct bpf_raw_tracepoint_args *ctx)
{
	probe_page_base(&get_shared()->control, bpf_get_current_task(), ctx->args[0],
	                &get_walk()->device.scratch);
	return 0;
}
#endif

#if !HAVE_TAGS
/* Run by the daemon before anything is attached: args: the first of POOL_STEP free indices. */
int fill_pool(struct bpf_raw_tracepoint_args *ctx)
{
	u32 first = ctx->args[0];

	for (int i = POOL_STEP - 1; i >= 0; i--)
		pool_release(first + i);
	return 0;
}
#endif

/* Run by the daemon, not attached: one step of one device; args: device, cursor. */
int walk_devices(struct bpf_raw_tracepoint_args *ctx)
{
	struct walk *walk = get_walk();

	walk_step(get_shared(), walk, ctx->args[0], ctx->args[1], &walk->device.scratch);
	return 0;
}

/* Attached for an instant: any packet sent leads to a network device, and so to all devices. */
int on_net_dev_queue(struct bpf_raw_tracepoint_args *ctx)
{
	u64 net_device = read_u64(ctx->args[0] + OFF_SKB_DEV);

	if (net_device)
		get_walk()->device.next = net_device + OFF_NET_DEVICE_DEV;
	return 0;
}
