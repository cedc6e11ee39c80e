/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tracked allocations: which are chosen, what is kept of them, and how their frees find them.
 */
#ifndef SLABMON_TRACKING_H
#define SLABMON_TRACKING_H

#define ENOMEM 12
#define EBUSY  16
#define EEXIST 17

static __always_inline void gate_add(struct shared *all, u64 index, u32 amount)
{
	__sync_fetch_and_add(&all->gate[index >> 2], amount << ((index & 3) << 3));
}

/* False: this address is not tracked. */
static __always_inline bool may_be_tracked(struct shared *all, u64 address)
{
	return ((u8 *)all->gate)[gate_index(address)];
}

static __always_inline void free_place(struct lane_head *head, u32 place)
{
	if (give_place_back(place))
		head->lost[LOST_PLACES]++;
}

/* Ends the tracking of an object; only one of several that try succeeds. */
static __always_inline bool forget(struct shared *all, struct lane_head *head, u64 address,
                                   struct sample *sample, u32 place)
{
	if (!drop_sample(address, place))
		return false;
	gate_add(all, gate_index(address), -1);
	*(volatile u64 *)&sample->time_ns = 0;
	free_place(head, place);
	return true;
}

static __always_inline u64 cache_in(struct alloc_lane *lane, u32 reference)
{
	return lane ? lane->slots[reference & (ALLOC_SLOTS - 1)].cache : CACHE_UNKNOWN;
}

static __always_inline u64 cache_of_slot(u32 reference)
{
	u64 number = reference / ALLOC_SLOTS;

	keep(number); /* here and below: or the bounds are checked of something else */
	if (number < LANES)
		return cache_in(kmalloc_lane(number), reference);
	number -= LANES;
	keep(number);
	if (number < LANES)
		return cache_in(cache_alloc_lane(number), reference);
#if BULK_ALLOC
	number -= LANES;
	keep(number);
	if (number < LANES)
		return cache_in(bulk_alloc_lane(number), reference);
#endif
	return CACHE_UNKNOWN;
}

/* An address is allocated that is still tracked: its free was never seen. */
static __always_inline void forget_unobserved(struct shared *all, struct lane_head *head,
                                              u64 address)
{
	u32 place;
	struct sample *old = find_sample(head, address, &place);
	u64 cache;

	if (!old)
		return;
	cache = cache_of_slot(old->slot);
	if (forget(all, head, address, old, place) && note_unobserved_free(cache))
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

/* Exact mode: is this allocation selected by size and cgroup as well? */
static __always_inline bool selected(u64 requested)
{
	if (EXACT_MIN_SIZE && requested < EXACT_MIN_SIZE)
		return false;
	if (EXACT_MAX_SIZE && requested > EXACT_MAX_SIZE)
		return false;
	return !EXACT_CGROUP || bpf_get_current_cgroup_id() == EXACT_CGROUP;
}

/* The stack of this allocation, which is counted there; a negative error without one. */
static __always_inline s32 count_stack(struct bpf_raw_tracepoint_args *ctx, struct shared *all,
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
	total = stack_total(stack < 0 ? STACK_IDS : stack);
	if (!total)
		return stack;
	weight = stands_for(&all->control, bytes, interval);
	__sync_fetch_and_add(&total->bytes, weight);
	/* To add what is known to be 0 LLVM makes an atomic `or`, which needs 5.12. */
	if (interval) {
		spread = weight - bytes;
		spread &= ~((s64)spread >> 63); /* rounding */
		__sync_fetch_and_add(&total->squares, weight * spread >> 16);
	}
	return stack;
}

/* Keeps an allocation, with who made it, until its free. */
static __always_inline void remember(struct bpf_raw_tracepoint_args *ctx, struct shared *all,
                                     struct lane_head *head, struct alloc_slot *slot, u64 address,
                                     u64 requested, u32 interval, u32 flags)
{
	struct sample *sample;
	u32 place = 0;
	s32 stack = STACKS ? count_stack(ctx, all, head, slot->size, interval, flags) : -1;
	long error = take_place(head, address, &place);

	if (error) {
		count_sample_error(head, error);
		return;
	}
	sample = sample_at(place);
	if (!sample)
		return;
	sample->slot = slot->reference;
	sample->cgroup = bpf_get_current_cgroup_id();
	sample->requested_bytes = requested;
	sample->allocated_bytes = slot->size;
	sample->interval = interval;
	sample->tgid = bpf_get_current_pid_tgid() >> 32;
	sample->flags = flags;
	bpf_get_current_comm(sample->comm, sizeof(sample->comm));
	sample->stack = stack;
	error = keep_sample(address, place);
	if (error) {
		free_place(head, place);
		count_sample_error(head, error);
		return;
	}
	gate_add(all, gate_index(address), 1);
	if (!TAGS && place >= head->pool_used)
		head->pool_used = place + 1;
	/* Last: readers of the mapped pool take a record once its time is set. */
	*(volatile u64 *)&sample->time_ns = bpf_ktime_get_ns();
}

/* Decides whether this allocation is tracked. Page-backed ones always are: nothing else tells
 * their size when they are freed. */
static __always_inline void track(struct bpf_raw_tracepoint_args *ctx, struct shared *all,
                                  struct lane_head *head, struct alloc_slot *slot, u64 address,
                                  u64 requested)
{
	u32 interval = 0, flags = SLOT_MATCH;

	if (unlikely(may_be_tracked(all, address)))
		forget_unobserved(all, head, address);
#if EXACT
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
		head->countdown = exponential_gap(&all->control, bpf_get_prandom_u32());
		interval = all->control.sample_interval;
	}
#endif
	remember(ctx, all, head, slot, address, requested, interval, flags);
}

/* Forgets a tracked object; returns the bytes it occupied, 0 if it was not tracked, and how many
 * nanoseconds it lived. */
static __always_inline u32 untrack(struct shared *all, struct lane_head *head, u64 address,
                                   u64 *lifetime)
{
	struct sample *sample;
	u32 bytes, place;
	u64 born;

	sample = find_sample(head, address, &place);
	if (!sample)
		return 0;
	bytes = sample->allocated_bytes;
	born = sample->time_ns;
	if (!forget(all, head, address, sample, place))
		return 0;
	*lifetime = bpf_ktime_get_ns() - born;
	return bytes;
}

#endif
