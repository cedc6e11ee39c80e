/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting in lanes. Each program writes a lane of its own on each CPU, and the kernel never
 * runs a raw tracepoint program inside itself on one CPU (from 6.1 on; before, each nesting
 * level has its own lane), so every lane has one writer and plain additions are exact.
 */
#ifndef SLABMON_LANES_H
#define SLABMON_LANES_H

#define __always_inline inline __attribute__((always_inline))
#define likely(x)       __builtin_expect(!!(x), 1)
#define unlikely(x)     __builtin_expect(!!(x), 0)

#define GOLDEN_RATIO_64 0x9E3779B97F4A7C15ull

struct alloc_lane {
	struct lane_head head;
	struct alloc_slot slots[ALLOC_SLOTS];
};

struct free_lane {
	struct lane_head head;
	struct free_slot slots[FREE_SLOTS];
};

/* Keeps the compiler from reckoning a value again from what it was made of. */
#define keep(value) asm volatile("" : "+r"(value))

/* The slot of this key, or a free one (site == 0) to claim, or NULL: lane full. */
static __always_inline struct alloc_slot *find_alloc_slot(struct alloc_lane *lane, u64 site,
                                                          u64 request, u64 cache, u64 extra)
{
	u64 mixed = site ^ request ^ (request >> 21) ^ cache ^ extra ^ (extra >> 20);
	u64 hash = mixed * GOLDEN_RATIO_64 >> 32;

#pragma clang loop unroll(disable)
	for (int left = SLOT_PROBES; left; left--, hash++) {
		struct alloc_slot *slot = &lane->slots[hash & (ALLOC_SLOTS - 1)];

		keep(hash);
		keep(slot);
		if (likely(slot->site == site) && slot->request == request &&
		    slot->extra == extra && (!cache || slot->cache == cache))
			return slot;
		if (!slot->site)
			return slot;
	}
	lane->head.lost[LOST_SITE_SLOTS_FULL]++;
	return 0;
}

/* As find_alloc_slot(): by the cache's key. Its caller has a hash of that. */
static __always_inline struct free_slot *find_free_slot(struct free_lane *lane, u64 cache, u64 hash)
{
#pragma clang loop unroll(disable)
	for (int left = SLOT_PROBES; left; left--, hash++) {
		struct free_slot *slot = &lane->slots[hash & (FREE_SLOTS - 1)];

		keep(hash);
		keep(slot);
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
                                             u64 site, u64 request, u64 extra)
{
	slot->reference = lane->head.first_reference + (slot - lane->slots);
	slot->request = request;
	slot->extra = extra;
	*(volatile u64 *)&slot->site = site;
}

/* Any number to the verifier: what follows from a known one it would follow as a path of its own.
 */
static __always_inline u64 opaque(volatile u64 *scratch, u64 value)
{
	*scratch = value;
	return *scratch;
}

static __always_inline void count_failure(struct alloc_slot *slot)
{
	if (slot->failed != 0xffffffff)
		slot->failed++;
}

#endif
