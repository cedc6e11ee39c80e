/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting in lanes. Each program writes its own lane on each CPU, and the kernel never runs a
 * raw tracepoint program inside itself on one CPU (since 05b24ff9b2cf "bpf: Prevent bpf program
 * recursion for raw tracepoint probes", 6.1; before, each nesting level has its own lane), so
 * every lane has one writer and plain additions are exact.
 */
#ifndef SLABMON_LANES_H
#define SLABMON_LANES_H

#define GOLDEN_RATIO_64 0x9E3779B97F4A7C15ull

struct alloc_lane {
	struct lane_head head;
	struct alloc_slot slots[NR_ALLOC_SLOTS];
};

struct free_lane {
	struct lane_head head;
	struct free_slot slots[NR_FREE_SLOTS];
};

/* Passed by a counting program from enter_*() to leave(). */
struct nesting {
	struct lane_head *home; /* head of the outermost level's lane */
	u64 depth;              /* runs of the program that this one interrupts on its CPU */
};

#if NR_NESTING > 1
/* Claims the next nesting level of `home`; returns false if there is none. */
static __always_inline bool nest(struct nesting *nesting, struct lane_head *home)
{
	nesting->depth = *(volatile u64 *)&home->depth;
	if (nesting->depth >= NR_NESTING) {
		__sync_fetch_and_add(&home->lost[LOST_NESTING], 1);
		return false;
	}
	*(volatile u64 *)&home->depth = nesting->depth + 1;
	nesting->home = home;
	return true;
}

static __always_inline void leave(struct nesting *nesting)
{
	*(volatile u64 *)&nesting->home->depth = nesting->depth;
}
#else
static __always_inline void leave(struct nesting *nesting)
{
}
#endif

/* Returns the slot of this key, a free one (site == 0) to claim, or NULL if the lane is full. */
static __always_inline struct alloc_slot *
find_alloc_slot(struct alloc_lane *lane, u64 site, u64 gfp_size_key, u64 cache, u64 variant_key)
{
	u64 mixed = site ^ gfp_size_key ^ (gfp_size_key >> 21) ^ cache ^ variant_key ^
	            (variant_key >> 20);
	u64 hash = mixed * GOLDEN_RATIO_64 >> 32;

#pragma clang loop unroll(disable)
	for (int left = SLOT_PROBES; left; left--, hash++) {
		struct alloc_slot *slot = &lane->slots[hash & (NR_ALLOC_SLOTS - 1)];

		barrier_var(hash);
		barrier_var(slot);
		if (likely(slot->site == site) && slot->gfp_size_key == gfp_size_key &&
		    slot->variant_key == variant_key && (!cache || slot->cache == cache))
			return slot;
		if (!slot->site)
			return slot;
	}
	lane->head.lost[LOST_SITE_SLOTS_FULL]++;
	return 0;
}

/* As find_alloc_slot(), by the cache's key; the caller passes a hash of it. */
static __always_inline struct free_slot *find_free_slot(struct free_lane *lane, u64 cache, u64 hash)
{
#pragma clang loop unroll(disable)
	for (int left = SLOT_PROBES; left; left--, hash++) {
		struct free_slot *slot = &lane->slots[hash & (NR_FREE_SLOTS - 1)];

		barrier_var(hash);
		barrier_var(slot);
		if (likely(slot->cache == cache))
			return slot;
		if (!slot->cache)
			return slot;
	}
	lane->head.lost[LOST_CACHE_SLOTS_FULL]++;
	return 0;
}

/* Publishes a slot: readers of the mapped lane take it once site is set. */
static __always_inline void claim_alloc_slot(struct alloc_lane *lane, struct alloc_slot *slot,
                                             u64 site, u64 gfp_size_key, u64 variant_key)
{
	slot->reference = lane->head.first_reference + (slot - lane->slots);
	slot->gfp_size_key = gfp_size_key;
	slot->variant_key = variant_key;
	*(volatile u64 *)&slot->site = site;
}

static __always_inline void count_failure(struct alloc_slot *slot)
{
	if (slot->failed != 0xffffffff)
		slot->failed++;
}

#endif
