/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pool index of a tracked object: where its record is.
 *
 * Where atomic operations can compare and return values (HAVE_TAGS), a table of tags maps an
 * address to its index: an index is tagged with the address of its object, and lies in one of
 * TAG_PROBES cache lines of tags, from the one that the address hashes to. Elsewhere a BPF hash
 * does, and a BPF stack holds the free indices; each call to either takes locks.
 *
 * Such atomics exist since 5.12 (91c960b00566 "bpf: Rename BPF_XADD and prepare to encode other
 * atomics in .imm" and the commits after it), on arm64 since 5.18 (1902472b4fa9 "bpf, arm64:
 * Support more atomic operations").
 */
#ifndef SLABMON_POOL_H
#define SLABMON_POOL_H

#if HAVE_TAGS
#define TAG_BUSY 1 /* beside an address, which is even: the record is being filled or cleared */

/* The first line of tags for this address. Line n holds the tags from TAG_WAYS * n on. */
static __always_inline u32 home_line(u64 address)
{
	return ((address >> 3) * GOLDEN_RATIO_64 >> 32) * (NR_TAG_LINES - TAG_PROBES) >> 32;
}

static __always_inline u64 *tag_of(u32 index)
{
	struct tag_line *line = tag_line(index / TAG_WAYS);

	return line ? &line->tags[index % TAG_WAYS] : 0;
}

/* Returns the record of a tracked object, and its index, or NULL. */
static __always_inline struct sample *pool_find(struct lane_head *head, u64 address, u32 *index)
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
				*index = hide_from_verifier(&head->scratch,
				                            (home + i) * TAG_WAYS + way);
				return sample_at(*index);
			}
	}
	return 0;
}

/* Claims a free index for an object; pool_find() finds it after pool_publish() only. */
static __always_inline long pool_claim(struct lane_head *head, u64 address, u32 *index)
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
				*index = hide_from_verifier(&head->scratch,
				                            (home + i) * TAG_WAYS + way);
				return 0;
			}
	}
	return -E2BIG;
}

static __always_inline long pool_publish(u64 address, u32 index)
{
	u64 *tag = tag_of(index);

	if (tag)
		*(volatile u64 *)tag = address;
	return 0;
}

/* Ends the tracking of an object; if several try, only one succeeds. */
static __always_inline bool pool_unlink(u64 address, u32 index)
{
	u64 *tag = tag_of(index);

	return tag && __sync_val_compare_and_swap(tag, address, address | TAG_BUSY) == address;
}

/* A full barrier: writes to the record before it stay before it. */
static __always_inline long pool_release(u32 index)
{
	u64 *tag = tag_of(index);

	if (tag)
		__sync_lock_test_and_set(tag, 0);
	return 0;
}
#else
static __always_inline struct sample *pool_find(struct lane_head *head, u64 address, u32 *index)
{
	u32 *value = hashed_index(address);

	if (!value)
		return 0;
	*index = *value;
	return sample_at(*value);
}

static __always_inline long pool_claim(struct lane_head *head, u64 address, u32 *index)
{
	return pop_index(index);
}

static __always_inline long pool_publish(u64 address, u32 index)
{
	return hash_index(address, index);
}

static __always_inline bool pool_unlink(u64 address, u32 index)
{
	return !unhash_index(address);
}

static __always_inline long pool_release(u32 index)
{
	return push_index(index);
}
#endif

#endif
