/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Locates the array of struct pages on kernels that have bpf_get_kmem_cache() but do not show
 * their symbols: its address is guessed, then verified against bpf_get_kmem_cache().
 */
#ifndef SLABMON_VMEMMAP_H
#define SLABMON_VMEMMAP_H

#if HAVE_PAGE_LOOKUP_INLINE
#define GIB (1ull << 30)

/* Tries a base with one more object; objects that are not in a slab do not count. */
static __always_inline void probe_object(struct control *control, u64 base, u64 address,
                                         volatile u64 *scratch)
{
	u64 cache = address ? cache_by_kfunc(address, scratch) : 0;

	if (!cache)
		return;
	control->vmemmap_probes++;
	control->vmemmap_hits += cache_by_page(base, address) == cache;
}

/*
 * Tries a base with the daemon's own task and what it points to; 0: guesses one. Memory and
 * struct pages are each mapped from a multiple of a GiB on (arch/x86/mm/kaslr.c), so that a
 * task and any struct page, here of its stack, give a guess that is wrong by whole GiB of
 * memory only.
 */
static __always_inline void probe_page_base(struct control *control, u64 task, u64 base,
                                            volatile u64 *scratch)
{
	u64 page;

	if (!base) {
		page = read_u64(read_u64(read_u64(task + OFF_TASK_STACK_AREA) + OFF_AREA_PAGES));
		control->vmemmap_guess = (page & ~(GIB - 1)) -
		                         ((task & ~(GIB - 1)) >> PAGE_SHIFT) * PAGE_STRUCT_BYTES;
		return;
	}
	control->vmemmap_probes = control->vmemmap_hits = 0;
	probe_object(control, base, task, scratch);
	probe_object(control, base, read_u64(task + OFF_TASK_FILES), scratch);
	probe_object(control, base, read_u64(task + OFF_TASK_FS), scratch);
	probe_object(control, base, read_u64(task + OFF_TASK_MM), scratch);
	probe_object(control, base, read_u64(task + OFF_TASK_CRED), scratch);
	probe_object(control, base, read_u64(task + OFF_TASK_SIGNAL), scratch);
	probe_object(control, base, read_u64(task + OFF_TASK_SIGHAND), scratch);
}
#endif

#endif
