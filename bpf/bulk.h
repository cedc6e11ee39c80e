/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The allocator's functions that no tracepoint covers, seen by fentry and fexit programs:
 * kmem_cache_alloc_bulk(), kmem_cache_free_bulk() (which RCU batches of kfree_rcu() end in as
 * well), and __kfree_rcu_sheaf(), which collects objects in per-CPU sheaves (since ec66e0d59952
 * "slab: add sheaf support for batching kfree_rcu() operations", 6.18).
 *
 * A program looks at BULK_STEP objects and then calls itself for the next ones, as a tail call:
 * the verifier follows each round of a loop, and the hundreds of objects that a batch may have
 * are too much for it. The kernel allows 33 tail calls in a row.
 */
#ifndef SLABMON_BULK_H
#define SLABMON_BULK_H

#define BULK_STEP     16
#define CALLER_FRAMES 2

/*
 * By a helper (f92c1e183604 "bpf: Add get_func_[arg|ret|arg_cnt] helpers", 5.17): the verifier
 * lets a program read arguments of some types only.
 */
static __always_inline u64 argument(void *ctx, u32 number)
{
	u64 value = 0;

	bpf_get_func_arg(ctx, number, &value);
	return value;
}

static __always_inline u64 returned_value(void *ctx)
{
	u64 value = 0;

	bpf_get_func_ret(ctx, &value);
	return value;
}

/*
 * The caller of the traced function. On the stack lie the program, the trampoline that runs it
 * (with one more frame on arm64), on some kernels the function, and then its caller. If it
 * cannot be found there, the function itself stands in for its callers.
 */
static __always_inline u64 bulk_caller(struct bpf_raw_tracepoint_args *ctx, struct shared *shared)
{
	u64 start = shared->control.bulk_alloc_text[0], end = shared->control.bulk_alloc_text[1];
	u64 frames[CALLER_FRAMES] = {};

	bpf_get_stack(ctx, frames, sizeof(frames), NR_BULK_OWN_FRAMES);
#pragma clang loop unroll(full)
	for (int i = 0; i < CALLER_FRAMES; i++)
		if (frames[i] && (frames[i] < start || frames[i] >= end))
			return frames[i];
	return start;
}

/* Ends a step. Returns true if the program is to be called again. */
static __always_inline bool bulk_continues(struct lane_head *head, u64 first, u64 objects)
{
	u64 next = first + BULK_STEP;

	if (likely(next >= objects)) {
		head->bulk_cursor = 0;
		return false;
	}
	head->bulk_cursor = next;
	return true;
}

/* The tail call returned: the kernel allows no more of them. */
static __always_inline void bulk_cut_short(struct lane_head *head, u64 objects)
{
	head->lost[LOST_BULK_TOO_LONG] += objects - head->bulk_cursor;
	head->bulk_cursor = 0;
}

#if HAVE_BULK_ALLOC
static __always_inline struct alloc_slot *bulk_alloc_slot_of(struct bpf_raw_tracepoint_args *ctx,
                                                             struct shared *shared,
                                                             struct alloc_lane *lane)
{
	u64 site = bulk_caller(ctx, shared), variant_key = variant_key_of(ctx, shared, site, 0);
	u64 cache = cache_key(shared, argument(ctx, 0)), gfp_size_key = argument(ctx, 1) << 32;
	struct alloc_slot *slot = find_alloc_slot(lane, site, gfp_size_key, cache, variant_key);
	u32 size = 0;

	if (slot && unlikely(!slot->site)) {
		slot->flags = match_site(shared, introduce_cache(shared, &lane->head, cache, &size),
		                         site);
		slot->size = size;
		slot->cache = cache;
		claim_alloc_slot(lane, slot, site, gfp_size_key, variant_key);
	}
	return slot;
}

static __always_inline void count_bulk_alloc(struct bpf_raw_tracepoint_args *ctx,
                                             struct shared *shared, struct alloc_lane *lane)
{
	u64 objects = argument(ctx, 2), list = argument(ctx, 3), first = lane->head.bulk_cursor;
	u64 returned = returned_value(ctx) & BULK_RETURN_MASK; /* 0: none, else all */
	struct alloc_slot *slot;

	if (!objects) /* returns 0, but did not fail */
		return;
	if (!first) {
		slot = bulk_alloc_slot_of(ctx, shared, lane);
		if (!slot) { /* one loss is counted */
			if (returned)
				lane->head.lost[LOST_SITE_SLOTS_FULL] += objects - 1;
			return;
		}
		if (!returned) {
			count_failure(slot);
			return;
		}
		slot->count += objects;
		lane->head.bulk_slot = slot - lane->slots;
	}
	slot = &lane->slots[lane->head.bulk_slot & (NR_ALLOC_SLOTS - 1)];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < BULK_STEP; i++) {
		if (first + i >= objects)
			break;
		sample_alloc(ctx, shared, &lane->head, slot, read_u64(list + 8 * (first + i)),
		             slot->size);
	}
	if (bulk_continues(&lane->head, first, objects)) {
		bulk_alloc_again(ctx);
		bulk_cut_short(&lane->head, objects);
	}
}
#endif

#if HAVE_BULK_FREE
static __always_inline void count_bulk_free(struct bpf_raw_tracepoint_args *ctx,
                                            struct shared *shared, struct free_lane *lane)
{
	u64 objects = argument(ctx, 1), list = argument(ctx, 2), first = lane->head.bulk_cursor;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < BULK_STEP; i++) {
		if (first + i >= objects)
			break;
		count_object_free(shared, lane, read_u64(list + 8 * (first + i)));
	}
	if (bulk_continues(&lane->head, first, objects)) {
		bulk_free_again(ctx);
		bulk_cut_short(&lane->head, objects);
	}
}
#endif

#if HAVE_RCU_SHEAVES
static __always_inline void count_rcu_free(struct bpf_raw_tracepoint_args *ctx,
                                           struct shared *shared, struct free_lane *lane)
{
	if (returned_value(ctx) & 0xff) /* bool */
		count_object_free(shared, lane, argument(ctx, 1));
}
#endif

#endif
