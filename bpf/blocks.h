/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pages and per-CPU memory by call path.
 *
 * The events of the page allocator name no caller, and they are those of all user memory too. So
 * pages of users, which ask for them with __GFP_MOVABLE, are left out first; of the others a sample
 * by bytes is tracked with its stack: each with probability 1 - exp(-bytes / interval), as slab
 * objects are. Per-CPU allocations are rare: all are tracked.
 *
 * Counters are per call path, and a tracked block leads to its path by a hash. Which frame of a
 * path is the call site is decided in Python (slabmon/kernel/tables/paths.py).
 */
#ifndef SLABMON_BLOCKS_H
#define SLABMON_BLOCKS_H

#if HAVE_BLOCKS
/* Frames of the program, of bpf_trace_run*() and of the allocator come before any of a module. */
#define PATH_FIRST_CALLER 3

static __always_inline u64 path_hash(const struct call_path *path)
{
	u64 hash = path->size ^ path->kind << 60 ^ path->generation << 32;

#pragma clang loop unroll(full)
	for (int i = 0; i < PATH_FRAMES; i++) {
		hash = (hash ^ path->frames[i]) * GOLDEN_RATIO_64;
		hash ^= hash >> 32;
	}
	return hash;
}

/* Where one of the callers is a module: the generation in which its text last changed. */
static __always_inline u64 path_generation(struct shared *shared, const struct call_path *path)
{
	u64 latest = 0;

#if HAVE_MODULES
#pragma clang loop unroll(full)
	for (int i = PATH_FIRST_CALLER; i < PATH_FRAMES; i++) {
		u64 frame = path->frames[i];
		u64 stamp;

		if (!frame || frame - shared->control.core_text < shared->control.core_text_bytes)
			continue;
		stamp = shared->control.module_stamps[module_page(frame)];
		if (stamp > latest)
			latest = stamp;
	}
#endif
	return latest;
}

/* Exact mode: does the filter's module or function lie on this path? */
static __always_inline bool path_selected(struct shared *shared, const struct call_path *path)
{
#if HAVE_EXACT_SITE
	u64 *text = shared->control.exact_site;

#pragma clang loop unroll(full)
	for (int i = 0; i < PATH_FRAMES; i++) {
		u64 frame = path->frames[i];

		if ((frame >= text[0] && frame < text[1]) || (frame >= text[2] && frame < text[3]))
			return true;
	}
	return false;
#else
	return true;
#endif
}

/* Fills in the frames and the generation of a path. */
static __always_inline void read_path(struct bpf_raw_tracepoint_args *ctx, struct shared *shared,
                                      struct call_path *path)
{
	if (bpf_get_stack(ctx, path->frames, sizeof(path->frames), 0) < 0)
		__sync_fetch_and_add(&shared->control.block_stacks, 1);
	path->generation = path_generation(shared, path);
}

/* Returns the counters of this path, and its hash, or NULL if there is no room for another. */
static __always_inline struct call_path *counted_path(struct shared *shared, struct call_path *path,
                                                      u64 *hash)
{
	struct call_path *known;

	*hash = path_hash(path);
	known = find_path(*hash);
	if (known)
		return known;
	add_path(*hash, path); /* or another CPU did */
	known = find_path(*hash);
	if (!known)
		__sync_fetch_and_add(&shared->control.paths_full, 1);
	return known;
}

static __always_inline void path_freed(u64 hash, u64 bytes, u64 variance)
{
	struct call_path *path = find_path(hash);

	if (!path)
		return;
	__sync_fetch_and_add(&path->live_bytes, -bytes);
	__sync_fetch_and_add(&path->freed_bytes, bytes);
	/* LLVM turns the addition of a known 0 into an atomic `or`, which needs 5.12. */
	if (variance)
		__sync_fetch_and_add(&path->live_variance, -variance);
}

static __always_inline void path_allocated(struct call_path *path, u64 bytes, u64 variance)
{
	__sync_fetch_and_add(&path->bytes, bytes);
	__sync_fetch_and_add(&path->live_bytes, bytes);
	if (variance)
		__sync_fetch_and_add(&path->live_variance, variance);
}
#endif

#if HAVE_PAGE_SITES
static __always_inline u64 block_filter_index(u64 page)
{
	return (page >> 6) * GOLDEN_RATIO_64 >> (64 - NR_BLOCK_FILTER_BITS);
}

static __always_inline struct block_filter *get_block_filter(void)
{
	struct block_filter *filter = (struct block_filter *)block_filter_value;

	barrier_var(filter); /* or clang adds indices with a bitwise or, as its low bits are 0 */
	return filter;
}

/* False: no tracked block begins with this page. */
static __always_inline bool maybe_block(u64 page)
{
	return ((u8 *)get_block_filter()->counters)[block_filter_index(page)];
}

static __always_inline void block_filter_add(u64 page, u32 amount)
{
	u64 index = block_filter_index(page);

	__sync_fetch_and_add(&get_block_filter()->counters[index >> 2],
	                     amount << ((index & 3) << 3));
}

/*
 * Returns the bits that were set before. Without HAVE_TAGS the kernel's atomic operations add only
 * (pool.h): of two CPUs that do this at once, one may get lost.
 */
static __always_inline u64 set_bits(u64 *word, u64 bits)
{
#if HAVE_TAGS
	return __sync_fetch_and_or(word, bits);
#else
	u64 before = *(volatile u64 *)word;

	*(volatile u64 *)word = before | bits;
	return before;
#endif
}

static __always_inline u64 parts_in(u64 bits)
{
	return __builtin_popcountll(bits);
}

/* Ends the tracking of a block, of which some parts may be free already. */
static __always_inline void end_block(u64 page, const struct block *block)
{
	u64 path = block->path, variance = block->variance;
	u64 bytes = block->share * (block->parts - parts_in(block->freed));

	if (remove_page_block(page))
		return; /* another CPU did, or its bucket is locked */
	block_filter_add(page, -1);
	path_freed(path, bytes, variance);
}

/*
 * Pages of a block that is no compound page are free one by one after split_page(), which
 * alloc_pages_exact() uses too; and a reference to the first one makes __free_pages() free the
 * others only. Of blocks of more than 64 pages, parts of a 64th are told apart.
 */
static __always_inline void free_part(struct shared *shared, u64 page, struct block *block,
                                      u64 first, u64 pages)
{
	u64 total = 1ull << (block->order & (ORDERS - 1));
	u64 shift = block->order > 6 ? block->order - 6 : 0, mask, before;

	if (first >= total)
		return;
	if (block->parts == 1 || pages >= total) {
		end_block(page, block);
		return;
	}
	if (!(pages >> shift)) {
		__sync_fetch_and_add(&shared->control.block_parts, 1);
		return;
	}
	mask = ((1ull << (pages >> shift & 63)) - 1) << (first >> shift & 63);
	before = set_bits(&block->freed, mask);
	path_freed(block->path, block->share * parts_in(mask & ~before), 0);
	if (parts_in(before | mask) == block->parts)
		end_block(page, block);
}

/* Is it part of a tracked block that begins before it? */
static __always_inline void free_part_of_larger(struct shared *shared, u64 page, u64 order)
{
#pragma clang loop unroll(disable)
	for (u64 larger = 1; larger < ORDERS - 4; larger++) {
		u64 head = page & ~((PAGE_STRUCT_BYTES << larger) - 1);
		struct block *block;

		if (larger <= order || !(shared->control.split_orders >> larger & 1) ||
		    head == page || !maybe_block(head))
			continue;
		block = find_page_block(head);
		if (block && block->order == larger)
			free_part(shared, head, block, (page - head) / PAGE_STRUCT_BYTES,
			          1ull << (order & (ORDERS - 1)));
	}
}

static __always_inline void page_freed(struct shared *shared, u64 page, u64 order)
{
	if (unlikely(maybe_block(page))) {
		struct block *block = find_page_block(page);

		if (block)
			free_part(shared, page, block, 0, 1ull << (order & (ORDERS - 1)));
	}
	if (PAGE_STRUCT_ALIGNED && unlikely(shared->control.split_orders >> 1 >> (order & 31)))
		free_part_of_larger(shared, page, order);
}

static __always_inline void page_sampled(struct bpf_raw_tracepoint_args *ctx, struct shared *shared,
                                         u64 page, u64 order, u64 gfp)
{
	struct call_path path = {}, *counted;
	struct block block = {}, *stale;

	order &= ORDERS - 1;
	path.size = (u64)PAGE_BYTES << order;
	path.kind = BLOCK_PAGES;
	read_path(ctx, shared, &path);
	if (!path_selected(shared, &path))
		return;
	counted = counted_path(shared, &path, &block.path);
	if (!counted)
		return;
	block.parts = 1;
	if (PAGE_STRUCT_ALIGNED && order && !(gfp & GFP_COMP)) {
		block.parts = order > 6 ? 64 : 1 << order;
		set_bits(&shared->control.split_orders, 1ull << order);
	}
	block.share = shared->control.page_weight[order] / block.parts;
	block.variance = shared->control.page_variance[order];
	block.order = order;
	stale = maybe_block(page) ? find_page_block(page) : 0;
	if (stale) {
		__sync_fetch_and_add(&shared->control.blocks_replaced, 1);
		end_block(page, stale);
	}
	if (add_page_block(page, &block)) {
		__sync_fetch_and_add(&shared->control.blocks_full, 1);
		return;
	}
	block_filter_add(page, 1);
	path_allocated(counted, block.share * block.parts, block.variance);
}

/* Most events leave here: those of users' pages, and those not sampled. */
static __always_inline void page_allocated(struct bpf_raw_tracepoint_args *ctx)
{
	u64 page = ctx->args[0], order = ctx->args[1], gfp = ctx->args[2];
	struct shared *shared = get_shared();

	if (likely(gfp & GFP_MOVABLE) || !page)
		return;
#if HAVE_EXACT
	if (!EXACT_PAGES || !selected((u64)PAGE_BYTES << (order & (ORDERS - 1))))
		return;
#else
	if (likely(bpf_get_prandom_u32() >= shared->control.page_chance[order & (ORDERS - 1)]))
		return;
#endif
	page_sampled(ctx, shared, page, order, gfp);
}
#endif

#if HAVE_PERCPU
static __always_inline void percpu_event(struct bpf_raw_tracepoint_args *ctx, u64 size, u64 pointer)
{
	struct shared *shared = get_shared();
	struct call_path path = {}, *counted;
	struct block block = {.share = size, .parts = 1};

	path.size = size;
	path.kind = BLOCK_PERCPU;
	read_path(ctx, shared, &path);
	counted = counted_path(shared, &path, &block.path);
	if (!counted)
		return;
	if (!pointer) {
		__sync_fetch_and_add(&counted->failed, 1);
		return;
	}
	if (add_percpu_block(pointer, &block))
		__sync_fetch_and_add(&shared->control.blocks_full, 1);
	else
		path_allocated(counted, size, 0);
}

static __always_inline void percpu_freed(u64 pointer)
{
	struct block *block = find_percpu_block(pointer);
	u64 path, bytes;

	if (!block)
		return; /* from before tracking */
	path = block->path;
	bytes = block->share;
	if (!remove_percpu_block(pointer))
		path_freed(path, bytes, 0);
}
#endif

#endif
