/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The allocator's functions that no tracepoint covers, seen by fentry and fexit programs:
 * kmem_cache_alloc_bulk(), kmem_cache_free_bulk() (which RCU batches of kfree_rcu() end in as
 * well), and from 6.18 on __kfree_rcu_sheaf(), which takes objects for sheaves of free ones.
 *
 * A program looks at BULK_STEP objects and then calls itself for the next ones, as a tail call:
 * the verifier follows each round of a loop, and the hundreds of objects that a batch may have
 * are too much for it. The kernel allows 33 tail calls in a row.
 */
#ifndef SLABMON_BULK_H
#define SLABMON_BULK_H

#define BULK_STEP     16
#define CALLER_FRAMES 2

/* By a helper: the verifier lets a program itself read arguments of some types only. */
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
 * Who called the traced function. On the stack lie the program, the trampoline that runs it (with
 * a frame more on arm64), on some kernels the function, and then its caller. Where it does not
 * tell, the function itself stands for its callers.
 */
static __always_inline u64 bulk_caller(struct bpf_raw_tracepoint_args *ctx, struct shared *all)
{
	u64 start = all->control.bulk_alloc_text[0], end = all->control.bulk_alloc_text[1];
	u64 frames[CALLER_FRAMES] = {};

	bpf_get_stack(ctx, frames, sizeof(frames), BULK_OWN_FRAMES);
#pragma clang loop unroll(full)
	for (int i = 0; i < CALLER_FRAMES; i++)
		if (frames[i] && (frames[i] < start || frames[i] >= end))
			return frames[i];
	return start;
}

/* Ends a step; true: the program is to be called again. */
static __always_inline bool bulk_goes_on(struct lane_head *head, u64 first, u64 objects)
{
	u64 next = first + BULK_STEP;

	if (likely(next >= objects)) {
		head->bulk_cursor = 0;
		return false;
	}
	head->bulk_cursor = next;
	return true;
}

/* The call did return: the kernel allows no more of them. */
static __always_inline void bulk_cut_short(struct lane_head *head, u64 objects)
{
	head->lost[LOST_BULK_TOO_LONG] += objects - head->bulk_cursor;
	head->bulk_cursor = 0;
}

#if BULK_ALLOC
static __always_inline struct alloc_slot *
bulk_alloc_slot_of(struct bpf_raw_tracepoint_args *ctx, struct shared *all, struct alloc_lane *lane)
{
	u64 site = bulk_caller(ctx, all), extra = extra_key(ctx, all, site, 0);
	u64 cache = cache_key(all, argument(ctx, 0)), request = argument(ctx, 1) << 32;
	struct alloc_slot *slot = find_alloc_slot(lane, site, request, cache, extra);
	u32 size = 0;

	if (slot && unlikely(!slot->site)) {
		slot->flags = match_site(all, introduce_cache(&lane->head, cache, &size), site);
		slot->size = size;
		slot->cache = cache;
		claim_alloc_slot(lane, slot, site, request, extra);
	}
	return slot;
}

static __always_inline void count_bulk_alloc(struct bpf_raw_tracepoint_args *ctx,
                                             struct shared *all, struct alloc_lane *lane)
{
	u64 objects = argument(ctx, 2), list = argument(ctx, 3), first = lane->head.bulk_cursor;
	u64 returned = returned_value(ctx) & BULK_RETURN_MASK; /* 0: none, else all */
	struct alloc_slot *slot;

	if (!objects) /* returns 0, but did not fail */
		return;
	if (!first) {
		slot = bulk_alloc_slot_of(ctx, all, lane);
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
	slot = &lane->slots[lane->head.bulk_slot & (ALLOC_SLOTS - 1)];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < BULK_STEP; i++) {
		if (first + i >= objects)
			break;
		track(ctx, all, &lane->head, slot, read_u64(list + 8 * (first + i)), slot->size);
	}
	if (bulk_goes_on(&lane->head, first, objects)) {
		bulk_alloc_again(ctx);
		bulk_cut_short(&lane->head, objects);
	}
}
#endif

#if BULK_FREE
static __always_inline void count_bulk_free(struct bpf_raw_tracepoint_args *ctx, struct shared *all,
                                            struct free_lane *lane)
{
	u64 objects = argument(ctx, 1), list = argument(ctx, 2), first = lane->head.bulk_cursor;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < BULK_STEP; i++) {
		if (first + i >= objects)
			break;
		count_object_free(all, lane, read_u64(list + 8 * (first + i)));
	}
	if (bulk_goes_on(&lane->head, first, objects)) {
		bulk_free_again(ctx);
		bulk_cut_short(&lane->head, objects);
	}
}
#endif

#if RCU_SHEAVES
static __always_inline void count_rcu_free(struct bpf_raw_tracepoint_args *ctx, struct shared *all,
                                           struct free_lane *lane)
{
	if (returned_value(ctx) & 0xff) /* bool */
		count_object_free(all, lane, argument(ctx, 1));
}
#endif

#endif
