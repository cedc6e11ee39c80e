/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which place of the pool a tracked object has.
 *
 * Where atomic operations can compare and return values (TAGS), a table of our own tells: a place
 * is tagged with the address of its object, in one of the TAG_PROBES cache lines of tags from
 * where the address hashes to. Elsewhere a BPF hash does, and a stack keeps the free places; each
 * call of theirs takes locks.
 */
#ifndef SLABMON_PLACES_H
#define SLABMON_PLACES_H

#define ENOENT 2
#define E2BIG  7

#if TAGS
#define TAG_BUSY 1 /* beside an address, which is even: the record is being filled or cleared */

/* One cache line of tags: of the places from TAG_WAYS times its number on. */
static __always_inline u32 home_line(u64 address)
{
	return ((address >> 3) * GOLDEN_RATIO_64 >> 32) * (TAG_LINES - TAG_PROBES) >> 32;
}

static __always_inline u64 *tag_of(u32 place)
{
	struct tag_line *line = tag_line(place / TAG_WAYS);

	return line ? &line->tags[place % TAG_WAYS] : 0;
}

/* Finds the object's place. */
static __always_inline struct sample *find_sample(struct lane_head *head, u64 address, u32 *place)
{
	u32 home = home_line(address);

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < TAG_PROBES; i++) {
		struct tag_line *line = tag_line(home + i);

		if (!line)
			break;
#pragma clang loop unroll(full)
		for (u32 way = 0; way < TAG_WAYS; way++)
			if (*(volatile u64 *)&line->tags[way] == address) {
				*place = opaque(&head->scratch, (home + i) * TAG_WAYS + way);
				return sample_at(*place);
			}
	}
	return 0;
}

/* Takes a free place for an object; nobody finds it there before keep_sample(). */
static __always_inline long take_place(struct lane_head *head, u64 address, u32 *place)
{
	u32 home = home_line(address);

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < TAG_PROBES; i++) {
		struct tag_line *line = tag_line(home + i);

		if (!line)
			break;
#pragma clang loop unroll(full)
		for (u32 way = 0; way < TAG_WAYS; way++)
			if (!*(volatile u64 *)&line->tags[way] &&
			    !__sync_val_compare_and_swap(&line->tags[way], 0, address | TAG_BUSY)) {
				*place = opaque(&head->scratch, (home + i) * TAG_WAYS + way);
				return 0;
			}
	}
	return -E2BIG;
}

static __always_inline long keep_sample(u64 address, u32 place)
{
	u64 *tag = tag_of(place);

	if (tag)
		*(volatile u64 *)tag = address;
	return 0;
}

/* Ends the tracking of an object; only one of several that try succeeds. */
static __always_inline bool drop_sample(u64 address, u32 place)
{
	u64 *tag = tag_of(place);

	return tag && __sync_val_compare_and_swap(tag, address, address | TAG_BUSY) == address;
}

/* A full barrier: what was written to the record before stays before. */
static __always_inline long give_place_back(u32 place)
{
	u64 *tag = tag_of(place);

	if (tag)
		__sync_lock_test_and_set(tag, 0);
	return 0;
}
#else
static __always_inline struct sample *find_sample(struct lane_head *head, u64 address, u32 *place)
{
	u32 *found = hashed_place(address);

	if (!found)
		return 0;
	*place = *found;
	return sample_at(*found);
}

static __always_inline long take_place(struct lane_head *head, u64 address, u32 *place)
{
	return pop_place(place);
}

static __always_inline long keep_sample(u64 address, u32 place)
{
	return hash_place(address, place);
}

static __always_inline bool drop_sample(u64 address, u32 place)
{
	return !unhash_place(address);
}

static __always_inline long give_place_back(u32 place)
{
	return push_place(place);
}
#endif

#endif
