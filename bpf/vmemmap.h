/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finding where all struct pages are, on kernels that have bpf_get_kmem_cache() but do not show
 * their symbols: guessed, and believed when it leads to the cache that the kernel names.
 */
#ifndef SLABMON_SHORT_WAY_H
#define SLABMON_SHORT_WAY_H

#if SHORT_WAY
#define GIB (1ull << 30)

/* One more object that a base is tried with; those that are in no slab say nothing. */
static __always_inline void try_page_base(struct control *control, u64 base, u64 address,
                                          volatile u64 *scratch)
{
	u64 cache = address ? cache_by_kernel(address, scratch) : 0;

	if (!cache)
		return;
	control->pages_asked++;
	control->pages_right += cache_by_page(base, address) == cache;
}

/*
 * Tries a base with the daemon's own task and what it points to; 0: guesses one. Memory and struct
 * pages are each mapped from a multiple of a GiB on (arch/x86/mm/kaslr.c), so that a task and any
 * struct page, here of its stack, give a guess that is wrong by whole GiB of memory only.
 */
static __always_inline void find_page_base(struct control *control, u64 task, u64 base,
                                           volatile u64 *scratch)
{
	u64 page;

	if (!base) {
		page = read_u64(read_u64(read_u64(task + OFF_TASK_STACK_AREA) + OFF_AREA_PAGES));
		control->page_guess =
			(page & ~(GIB - 1)) - ((task & ~(GIB - 1)) >> PAGE_BITS) * PAGE_STRUCT_SIZE;
		return;
	}
	control->pages_asked = control->pages_right = 0;
	try_page_base(control, base, task, scratch);
	try_page_base(control, base, read_u64(task + OFF_TASK_FILES), scratch);
	try_page_base(control, base, read_u64(task + OFF_TASK_FS), scratch);
	try_page_base(control, base, read_u64(task + OFF_TASK_MM), scratch);
	try_page_base(control, base, read_u64(task + OFF_TASK_CRED), scratch);
	try_page_base(control, base, read_u64(task + OFF_TASK_SIGNAL), scratch);
	try_page_base(control, base, read_u64(task + OFF_TASK_SIGHAND), scratch);
}
#endif

#endif
