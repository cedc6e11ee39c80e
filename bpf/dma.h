/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Memory that drivers allocate for DMA: by dma_alloc_coherent() and dma_alloc_attrs(), pools of
 * which included, by dma_alloc_pages() and by dma_alloc_noncontiguous() (kernel/dma/mapping.c).
 * The events name the device. They are rare: all are counted, while tracking sleeps too.
 *
 * What is freed is subtracted only if its allocation was counted. So memory from before tracking
 * does not make the rest look smaller when it is freed: that is counted apart.
 */
#ifndef SLABMON_DMA_H
#define SLABMON_DMA_H

#if HAVE_DMA
/*
 * Is this in memory that the platform has reserved for the device? Of that, dma_alloc_attrs()
 * reports allocations since 68b6dbf1f441 "dma-mapping: trace more error paths" (6.13), but
 * dma_free_attrs() no frees.
 */
static __always_inline bool in_reserved_memory(u64 device, u64 address)
{
#if OFF_DMA_MEM
	u64 reserved = read_u64(device + OFF_DMA_MEM);
	u64 pages = reserved ? read_u32(reserved + OFF_DMA_MEM_PAGES) : 0;

	return pages && address - read_u64(reserved + OFF_DMA_MEM_BASE) < pages << PAGE_SHIFT;
#else
	return false;
#endif
}

/* By names, as the ledger: the address of a device that is gone may become another's. */
static __always_inline u64 dma_device_hash(const struct dma_device *device)
{
	const u64 *bus = (const u64 *)device->bus;
	u64 hash = name_hash((const u64 *)device->name);

#pragma unroll
	for (int i = 0; i < 4; i++) {
		hash = (hash ^ bus[i]) * GOLDEN_RATIO_64;
		hash ^= hash >> 32;
	}
	return hash;
}

/* Returns the record of a device, and its hash, or NULL if there is no room for another. */
static __always_inline struct dma_device *counted_dma_device(struct shared *shared, u64 device,
                                                             u64 *hash)
{
	struct dma_device names = {}, *known;

	read_device_names(device, names.name, names.bus, names.driver, names.module);
	*hash = dma_device_hash(&names);
	known = find_dma_device(*hash);
	if (!known) {
		add_dma_device(*hash, &names); /* or another CPU did */
		known = find_dma_device(*hash);
		if (!known)
			__sync_fetch_and_add(&shared->control.dma_lost, 1);
		return known;
	}
	if (names.driver[0]) {
		__builtin_memcpy(known->driver, names.driver, sizeof(known->driver));
		__builtin_memcpy(known->module, names.module, sizeof(known->module));
	}
	return known;
}

static __always_inline void end_dma_block(struct shared *shared, u64 address,
                                          const struct dma_block *block)
{
	u64 bytes = block->bytes;
	struct dma_device *device = find_dma_device(block->device);

	if (remove_dma_block(address)) { /* its bucket is locked */
		__sync_fetch_and_add(&shared->control.dma_lost, 1);
		return;
	}
	if (!device)
		return;
	__sync_fetch_and_add(&device->frees, 1);
	__sync_fetch_and_add(&device->freed_bytes, bytes);
}

/* Address 0: the allocation failed. */
static __always_inline void dma_allocated(struct shared *shared, u64 device, u64 address, u64 bytes)
{
	struct dma_block block = {.bytes = bytes}, *stale;
	struct dma_device *counted;

	if (in_reserved_memory(device, address))
		return;
	counted = counted_dma_device(shared, device, &block.device);
	if (!counted)
		return;
	if (!address) {
		__sync_fetch_and_add(&counted->failed, 1);
		return;
	}
	stale = find_dma_block(address);
	if (stale) {
		__sync_fetch_and_add(&shared->control.dma_replaced, 1);
		end_dma_block(shared, address, stale);
	}
	if (add_dma_block(address, &block)) {
		__sync_fetch_and_add(&shared->control.dma_lost, 1);
		return;
	}
	__sync_fetch_and_add(&counted->allocs, 1);
	__sync_fetch_and_add(&counted->bytes, bytes);
}

static __always_inline void dma_freed(struct shared *shared, u64 device, u64 address, u64 bytes)
{
	struct dma_block *block = find_dma_block(address);
	struct dma_device *counted;
	u64 hash;

	if (!address)
		return;
	if (block) {
		end_dma_block(shared, address, block);
		return;
	}
	counted = counted_dma_device(shared, device, &hash);
	if (!counted)
		return;
	__sync_fetch_and_add(&counted->earlier_frees, 1);
	__sync_fetch_and_add(&counted->earlier_bytes, bytes);
}
#endif

#endif
