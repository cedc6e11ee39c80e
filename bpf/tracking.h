/*
 * Tracked allocations: which are chosen, what is kept of them, and how their frees find them.
 */
#ifndef SLABMON_TRACKING_H
#define SLABMON_TRACKING_H

#define ENOMEM 12
#define E2BIG  7
#define EBUSY  16
#define EEXIST 17

static __always_inline void gate_add(struct shared *all, u64 index, u32 amount)
{
	__sync_fetch_and_add(&all->gate[index >> 2], amount << ((index & 3) << 3));
}

/* An address is allocated that is still tracked: its free was never seen. */
static __always_inline void forget_unobserved(struct lane_head *head, struct shared *all,
                                              u64 address, u64 index)
{
	struct sample *old = find_sample(address);
	u64 cache;

	if (!old)
		return;
	cache = old->cache;
	if (drop_sample(address))
		return;
	gate_add(all, index, -1);
	if (note_unobserved_free(cache))
		head->lost[LOST_UNOBSERVED_FREES_FULL]++;
}

static __always_inline void count_sample_error(struct lane_head *head, long error)
{
	if (error == -E2BIG)
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

/* Keeps an allocation, with who made it, until its free. */
static __always_inline void remember(struct bpf_raw_tracepoint_args *ctx, struct lane_head *head,
                                     struct alloc_slot *slot, struct shared *all, u64 address,
                                     u64 requested, u32 interval, u32 flags)
{
	struct sample sample = {
		.cache = slot->cache,
		.site = slot->site,
		.time_ns = bpf_ktime_get_ns(),
		.cgroup = bpf_get_current_cgroup_id(),
		.module_generation = slot->extra >> 32,
		.requested_bytes = requested,
		.allocated_bytes = slot->size,
		.interval = interval,
		.gfp = slot->request >> 32,
		.tgid = bpf_get_current_pid_tgid() >> 32,
		.stack = -1,
		.flags = flags,
	};
	long error;

	bpf_get_current_comm(sample.comm, sizeof(sample.comm));
	if (STACKS) {
		sample.stack = stack_id(ctx);
		if (sample.stack == -EEXIST)
			head->lost[LOST_STACK_COLLISION]++;
		else if (sample.stack < 0)
			head->lost[LOST_STACK_ERROR]++;
	}
	error = keep_sample(address, &sample);
	if (error)
		count_sample_error(head, error);
	else
		gate_add(all, gate_index(address), 1);
}

/* Decides whether this allocation is tracked. Page-backed ones always are: nothing else tells
 * their size when they are freed. */
static __always_inline void track(struct bpf_raw_tracepoint_args *ctx, struct lane_head *head,
                                  struct alloc_slot *slot, u64 address, u64 requested)
{
	struct shared *all = get_shared();
	u64 index = gate_index(address);
	u32 interval = 0, flags = SLOT_MATCH;

	if (!all)
		return;
	if (unlikely(((u8 *)all->gate)[index]))
		forget_unobserved(head, all, address, index);
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
	remember(ctx, head, slot, all, address, requested, interval, flags);
}

/* Forgets a tracked object; returns the bytes it occupied, 0 if it was not tracked. */
static __always_inline u32 untrack(u64 address, u32 *decade)
{
	struct shared *all = get_shared();
	u64 index = gate_index(address), born;
	struct sample *sample;
	u32 bytes;

	if (!all || likely(!((u8 *)all->gate)[index]))
		return 0;
	sample = find_sample(address);
	if (!sample)
		return 0;
	bytes = sample->allocated_bytes;
	born = sample->time_ns;
	if (drop_sample(address))
		return 0;
	gate_add(all, index, -1);
	*decade = lifetime_decade(bpf_ktime_get_ns() - born);
	return bytes;
}

#endif
