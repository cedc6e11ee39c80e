/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tracked allocations: which are chosen, what is recorded of them, and how their frees find
 * them.
 */
#ifndef SLABMON_TRACKING_H
#define SLABMON_TRACKING_H

static __always_inline void filter_add(struct shared *shared, u64 index, u32 amount)
{
	__sync_fetch_and_add(&shared->filter[index >> 2], amount << ((index & 3) << 3));
}

/* False: this address is not tracked. */
static __always_inline bool maybe_tracked(struct shared *shared, u64 address)
{
	return ((u8 *)shared->filter)[filter_index(address)];
}

static __always_inline void release_index(struct lane_head *head, u32 index)
{
	if (pool_release(index))
		head->lost[LOST_PLACES]++;
}

/* Ends the tracking of an object; if several try, only one succeeds. */
static __always_inline bool pool_remove(struct shared *shared, struct lane_head *head, u64 address,
                                        struct sample *sample, u32 index)
{
	if (!pool_unlink(address, index))
		return false;
	filter_add(shared, filter_index(address), -1);
	*(volatile u64 *)&sample->time_ns = 0;
	release_index(head, index);
	return true;
}

static __always_inline u64 cache_in(struct alloc_lane *lane, u32 reference)
{
	return lane ? lane->slots[reference & (NR_ALLOC_SLOTS - 1)].cache : CACHE_UNKNOWN;
}

static __always_inline u64 cache_of_slot(u32 reference)
{
	u64 number = reference / NR_ALLOC_SLOTS;

	barrier_var(number); /* here and below: or clang checks the bounds of another value */
	if (number < NR_LANES)
		return cache_in(kmalloc_lane(number), reference);
	number -= NR_LANES;
	barrier_var(number);
	if (number < NR_LANES)
		return cache_in(cache_alloc_lane(number), reference);
#if HAVE_BULK_ALLOC
	number -= NR_LANES;
	barrier_var(number);
	if (number < NR_LANES)
		return cache_in(bulk_alloc_lane(number), reference);
#endif
	return CACHE_UNKNOWN;
}

/* An address is allocated that is still tracked: its free was not observed. */
static __always_inline void remove_unobserved(struct shared *shared, struct lane_head *head,
                                              u64 address)
{
	u32 index;
	struct sample *stale = pool_find(head, address, &index);
	u64 cache;

	if (!stale)
		return;
	cache = cache_of_slot(stale->slot);
	if (pool_remove(shared, head, address, stale, index) && note_unobserved_free(cache))
		head->lost[LOST_UNOBSERVED_FREES_FULL]++;
}

static __always_inline void count_sample_error(struct lane_head *head, long error)
{
	if (error == -E2BIG || error == -ENOENT)
		head->lost[LOST_SAMPLES_FULL]++;
	else if (error == -ENOMEM)
		head->lost[LOST_SAMPLE_ENOMEM]++;
	else if (error == -EBUSY)
		head->lost[LOST_SAMPLE_EBUSY]++;
	else
		head->lost[LOST_SAMPLE_OTHER]++;
}

/* Is the filter's cgroup the charged one, or above it? One level where its level is known. */
static __always_inline bool in_exact_cgroup(void)
{
	u64 cgroup = charged_cgroup();
	int level;

#pragma unroll
	for (level = EXACT_LEVEL_FIRST; level <= EXACT_LEVEL_LAST; level++)
		if (ancestor_cgroup_id(cgroup, level) == EXACT_CGROUP)
			return true;
	return false;
}

/* Exact mode: is this allocation selected by size, process, process tree and cgroup as well? */
static __always_inline bool selected(u64 requested)
{
	if (EXACT_MIN_BYTES && requested < EXACT_MIN_BYTES)
		return false;
	if (EXACT_MAX_BYTES && requested > EXACT_MAX_BYTES)
		return false;
	if (EXACT_PID && bpf_get_current_pid_tgid() >> 32 != EXACT_PID)
		return false;
	if (!in_process_tree())
		return false;
	return !EXACT_CGROUP || in_exact_cgroup();
}

/* Adds the allocation to the total of its stack. Returns the stack id, or a negative error. */
static __always_inline s32 count_stack(struct bpf_raw_tracepoint_args *ctx, struct shared *shared,
                                       struct lane_head *head, u64 bytes, u32 interval, u32 flags)
{
	struct stack_total *total;
	u64 weight, spread;
	s32 stack = stack_id(ctx);

	if (stack == -EEXIST)
		head->lost[LOST_STACK_COLLISION]++;
	else if (stack < 0)
		head->lost[LOST_STACK_ERROR]++;
	if (!flags)
		return stack;
	total = stack_total(stack < 0 ? NR_STACK_IDS : stack);
	if (!total)
		return stack;
	if (stack >= 0)
		copy_stack(ctx, head, stack, total);
	weight = sample_weight(&shared->control, bytes, interval);
	__sync_fetch_and_add(&total->bytes, weight);
	/* LLVM turns the addition of a known 0 into an atomic `or`, which needs 5.12. */
	if (interval) {
		spread = weight - bytes;
		spread &= ~((s64)spread >> 63); /* rounding */
		__sync_fetch_and_add(&total->variance, weight * spread >> 16);
	}
	return stack;
}

/* Records an allocation and its task until its free. */
static __always_inline void pool_insert(struct bpf_raw_tracepoint_args *ctx, struct shared *shared,
                                        struct lane_head *head, struct alloc_slot *slot,
                                        u64 address, u64 requested, u32 interval, u32 flags)
{
	struct sample *sample;
	u32 index = 0;
	s32 stack = HAVE_STACKS ? count_stack(ctx, shared, head, slot->size, interval, flags) : -1;
	long error = pool_claim(head, address, &index);

	if (error) {
		count_sample_error(head, error);
		return;
	}
	sample = sample_at(index);
	if (!sample)
		return;
	sample->slot = slot->reference;
	sample->cgroup = charged_cgroup_id();
	sample->requested_bytes = requested;
	sample->allocated_bytes = slot->size;
	sample->interval = interval;
	sample->tgid = bpf_get_current_pid_tgid() >> 32;
	sample->flags = flags;
	sample->context = current_context();
	sample->probe = current_probe(shared);
	bpf_get_current_comm(sample->comm, sizeof(sample->comm));
	sample->stack = stack;
	error = pool_publish(address, index);
	if (error) {
		release_index(head, index);
		count_sample_error(head, error);
		return;
	}
	filter_add(shared, filter_index(address), 1);
	if (!HAVE_TAGS && index >= head->pool_used)
		head->pool_used = index + 1;
	/* Last: readers of the mapped pool take a record once its time is set. */
	*(volatile u64 *)&sample->time_ns = bpf_ktime_get_ns();
}

/*
 * Decides whether this allocation is tracked. Page-backed ones always are: no event tells their
 * size when they are freed.
 */
static __always_inline void sample_alloc(struct bpf_raw_tracepoint_args *ctx, struct shared *shared,
                                         struct lane_head *head, struct alloc_slot *slot,
                                         u64 address, u64 requested)
{
	u32 interval = 0, flags = SLOT_MATCH;

	if (unlikely(maybe_tracked(shared, address)))
		remove_unobserved(shared, head, address);
#if HAVE_EXACT
	if (!(slot->flags & SLOT_MATCH) || !selected(requested)) {
		if (slot->cache != CACHE_LARGE)
			return;
		flags = 0;
	}
#else
	if (likely(slot->cache != CACHE_LARGE)) {
		head->countdown -= slot->size;
		if (likely(head->countdown > 0))
			return;
		head->countdown = exponential_gap(&shared->control, bpf_get_prandom_u32());
		interval = shared->control.sample_interval;
	}
#endif
	pool_insert(ctx, shared, head, slot, address, requested, interval, flags);
}

/*
 * Stops tracking an object. Returns the bytes it occupied, 0 if it was not tracked, and its
 * lifetime in nanoseconds.
 */
static __always_inline u32 pool_take(struct shared *shared, struct lane_head *head, u64 address,
                                     u64 *lifetime)
{
	struct sample *sample;
	u32 bytes, index;
	u64 born;

	sample = pool_find(head, address, &index);
	if (!sample)
		return 0;
	bytes = sample->allocated_bytes;
	born = sample->time_ns;
	if (!pool_remove(shared, head, address, sample, index))
		return 0;
	*lifetime = bpf_ktime_get_ns() - born;
	return bytes;
}

#endif
