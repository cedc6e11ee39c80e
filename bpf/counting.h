/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each event adds to its lane.
 */
#ifndef SLABMON_COUNTING_H
#define SLABMON_COUNTING_H

static __always_inline u64 hash_cache(u64 cache)
{
	return cache * GOLDEN_RATIO_64 >> 32;
}

static __always_inline u8 *cache_generation(struct shared *shared, u64 hash)
{
	return &shared->control.cache_generation[hash >> 8 & (CACHE_GENERATIONS - 1)];
}

/* Cache address with its generation: a cache created where one was destroyed differs. */
static __always_inline u64 cache_key(struct shared *shared, u64 cache)
{
	return cache | (*cache_generation(shared, hash_cache(cache)) & CACHE_GENERATION_MASK);
}

/* A lost update is harmless: the generation still changes. */
static __always_inline void cache_destroyed(struct shared *shared, u64 cache)
{
	(*cache_generation(shared, hash_cache(cache)))++;
}

/* Hash of a name of 64 bytes, padded with zeros (slabmon/kernel/bpf/names.py); 0 is no hash. */
static __always_inline u64 name_hash(const u64 *words)
{
	u64 hash = 1;
	int i;

#pragma unroll
	for (i = 0; i < 8; i++) {
		hash = (hash ^ words[i]) * GOLDEN_RATIO_64;
		hash ^= hash >> 32;
	}
	return hash;
}

#if HAVE_EXACT_CACHE
static __always_inline bool match_cache(struct shared *shared, u64 hash)
{
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_EXACT_CACHES; i++)
		if (shared->control.exact_caches[i] == hash)
			return true;
	return false;
}
#endif

/* A cache appears in a lane: stores its record; returns SLOT_* and its object size. */
static __always_inline u32 introduce_cache(struct shared *shared, struct lane_head *head, u64 key,
                                           u32 *size)
{
	struct cache_record record = {};
	u32 flags = SLOT_MATCH;
	u64 *words = (u64 *)record.name;
	long error;

	if (key > CACHE_LARGE) {
		read_cache_record(&record, key & ~(u64)CACHE_GENERATION_MASK);
		*size = record.size;
		error = store_cache(key, &record);
		if (error)
			head->lost[LOST_CACHE_TABLE_FULL]++;
		if (words[0] == WORD('k', 'm', 'e', 'm', '_', 'c', 'a', 'c') &&
		    words[1] == WORD('h', 'e', 0, 0, 0, 0, 0, 0))
			flags |= SLOT_META;
		if (record.flags & EXACT_EXCLUDED_FLAGS)
			flags &= ~SLOT_MATCH;
	}
#if HAVE_EXACT_CACHE
	if (key == CACHE_LARGE ? !HAVE_EXACT_LARGE : !match_cache(shared, name_hash(words)))
		flags &= ~SLOT_MATCH;
#endif
	return flags;
}

static __always_inline u32 match_site(struct shared *shared, u32 flags, u64 site)
{
#if HAVE_EXACT_SITE
	u64 *text = shared->control.exact_site;

	if ((site < text[0] || site >= text[1]) && (site < text[2] || site >= text[3]))
		flags &= ~SLOT_MATCH;
#endif
	return flags;
}

/*
 * The rest of a slot's key: the requested node, which is argument `node_arg` (0: none), and for
 * call sites in modules the generation in which the text around them last changed.
 */
static __always_inline u64 variant_key_of(struct bpf_raw_tracepoint_args *ctx,
                                          struct shared *shared, u64 site, int node_arg)
{
	u64 key = HAVE_MANY_NODES && node_arg ? (u32)ctx->args[node_arg] + 1 : 0;

#if HAVE_MODULES
	if (unlikely(site - shared->control.core_text >= shared->control.core_text_bytes))
		key |= (u64)shared->control.module_stamps[module_page(site)] << 32;
#endif
	return key;
}

static __always_inline int count_kmalloc(struct bpf_raw_tracepoint_args *ctx, struct shared *shared,
                                         struct alloc_lane *lane, int node_arg)
{
	u64 site = ctx->args[0], address = ctx->args[1];
	u64 requested = ctx->args[ARG_KMALLOC_REQUESTED], bytes = ctx->args[ARG_KMALLOC_ALLOCATED];
	u64 gfp_size_key, variant_key, cache = 0;
	struct alloc_slot *slot;

	if (address == ZERO_SIZE_PTR)
		return 0;
	if (unlikely(is_page_backed(bytes))) {
		if (is_inner_large_event(&shared->control, site))
			return 0;
		if (bytes > 0xffffffff) /* only a failed request can be that large */
			bytes = 0xffffffff;
	}
	gfp_size_key = ctx->args[ARG_KMALLOC_GFP] << 32 | bytes;
	variant_key = variant_key_of(ctx, shared, site, node_arg);
#if !HAVE_CACHE_BY_SITE
	if (address) {
		cache = slab_cache_of(shared, address, &lane->head.scratch);
		if (!cache && is_page_backed(bytes))
			cache = CACHE_LARGE;
	}
#endif
	slot = find_alloc_slot(lane, site, gfp_size_key, cache, variant_key);
	if (!slot)
		return 0;
	if (unlikely(!slot->site)) {
		slot->size = bytes;
		claim_alloc_slot(lane, slot, site, gfp_size_key, variant_key);
	}
	if (unlikely(!address)) {
		count_failure(slot);
		return 0;
	}
	if (unlikely(!slot->cache)) {
		u32 size;

		if (HAVE_CACHE_BY_SITE)
			cache = slab_cache_of(shared, address, &lane->head.scratch);
		if (!cache && is_page_backed(bytes))
			cache = CACHE_LARGE;
		if (cache) {
			slot->flags = match_site(
				shared, introduce_cache(shared, &lane->head, cache, &size), site);
			slot->cache = cache;
		} else {
			lane->head.lost[LOST_CACHE_UNRESOLVED]++;
		}
	}
	slot->count++;
	slot->requested_bytes += requested;
	sample_alloc(ctx, shared, &lane->head, slot, address, requested);
	return 0;
}

static __always_inline int count_cache_alloc(struct bpf_raw_tracepoint_args *ctx,
                                             struct shared *shared, struct alloc_lane *lane,
                                             int node_arg)
{
	u64 site = ctx->args[0], address = ctx->args[1];
	u64 gfp_size_key = ctx->args[ARG_CACHE_ALLOC_GFP] << 32;
	u64 variant_key = variant_key_of(ctx, shared, site, node_arg), cache;
	struct alloc_slot *slot;

#if ARG_CACHE_ALLOC_CACHE
	cache = cache_key(shared, ctx->args[ARG_CACHE_ALLOC_CACHE]);
#else
	cache = address ? slab_cache_of(shared, address, &lane->head.scratch) : 0;
	if (cache)
		cache = cache_key(shared, cache);
	else if (address)
		lane->head.lost[LOST_CACHE_UNRESOLVED]++;
#endif
	slot = find_alloc_slot(lane, site, gfp_size_key, cache, variant_key);
	if (!slot)
		return 0;
	if (unlikely(!slot->site)) {
		u32 size = 0;

		if (cache)
			slot->flags = match_site(
				shared, introduce_cache(shared, &lane->head, cache, &size), site);
		slot->size = size;
		slot->cache = cache;
		claim_alloc_slot(lane, slot, site, gfp_size_key, variant_key);
	}
	if (unlikely(!address)) {
		count_failure(slot);
		return 0;
	}
	slot->count++;
	sample_alloc(ctx, shared, &lane->head, slot, address, slot->size);
	return 0;
}

static __always_inline struct free_slot *free_slot_of(struct shared *shared, struct free_lane *lane,
                                                      u64 cache, u64 hash)
{
	struct free_slot *slot = find_free_slot(lane, cache, hash);
	u32 size;

	if (slot && unlikely(!slot->cache)) {
		slot->flags = introduce_cache(shared, &lane->head, cache, &size);
		*(volatile u64 *)&slot->cache = cache;
	}
	return slot;
}

/* `cache` is the address of a cache, CACHE_LARGE or CACHE_UNKNOWN. */
static __always_inline void count_free(struct shared *shared, struct free_lane *lane, u64 address,
                                       u64 cache)
{
	u64 hash = hash_cache(cache), lifetime = 0;
	u64 generation = *cache_generation(shared, hash) & CACHE_GENERATION_MASK;
	struct free_slot *slot = 0;
	u32 bytes;

	generation &= -(cache > CACHE_LARGE);
	if (likely(cache))
		slot = free_slot_of(shared, lane, cache | generation, hash + generation);
	else
		lane->head.lost[LOST_CACHE_UNRESOLVED]++;
	if (likely(slot)) {
		slot->count++;
		if (unlikely(slot->flags >= SLOT_META))
			cache_destroyed(shared, address);
	}
	if (likely(cache != CACHE_LARGE) && likely(!maybe_tracked(shared, address)))
		return;
	bytes = pool_take(shared, &lane->head, address, &lifetime);
	if (unlikely(cache == CACHE_LARGE)) {
		if (bytes)
			lane->head.large_freed_bytes += bytes;
		else
			lane->head.lost[LOST_LARGE_FREE_SIZE]++;
	}
	if (bytes && slot)
		slot->lifetimes[lifetime_decade(lifetime)]++;
}

/* A free whose event does not name the cache: the object's slab does. */
static __always_inline void count_object_free(struct shared *shared, struct free_lane *lane,
                                              u64 address)
{
	volatile u64 *scratch = &lane->head.scratch;
	u64 cache;

	if (address <= ZERO_SIZE_PTR)
		return;
	cache = slab_cache_of(shared, address, scratch);
	if (!cache && HAVE_CACHE_LOOKUP)
		cache = hide_from_verifier(scratch, CACHE_LARGE);
	count_free(shared, lane, address, cache);
}

static __always_inline void count_cache_free(struct bpf_raw_tracepoint_args *ctx,
                                             struct shared *shared, struct free_lane *lane)
{
	u64 address = ctx->args[1], cache;

	if (address <= ZERO_SIZE_PTR)
		return;
#if ARG_CACHE_FREE_CACHE /* 3544de8ee6e4 "mm, tracing: record slab name ..." (5.13) */
	cache = ctx->args[ARG_CACHE_FREE_CACHE];
#else
	cache = slab_cache_of(shared, address, &lane->head.scratch);
#endif
	count_free(shared, lane, address, cache);
}

#if HAVE_PAGES
/* Page allocator: slots are keyed by order + 1 instead of the call site or the cache. */
static __always_inline void count_page_alloc(struct alloc_lane *lane, u64 page, u64 order, u64 gfp)
{
	struct alloc_slot *slot = find_alloc_slot(lane, order + 1, gfp << 32, 0, 0);

	if (!slot)
		return;
	if (unlikely(!slot->site))
		claim_alloc_slot(lane, slot, order + 1, gfp << 32, 0);
	if (page)
		slot->count++;
	else
		count_failure(slot);
}

static __always_inline void count_page_free(struct free_lane *lane, u64 order)
{
	struct free_slot *slot = find_free_slot(lane, order + 1, order);

	if (!slot)
		return;
	*(volatile u64 *)&slot->cache = order + 1;
	slot->count++;
}
#endif

#endif
