/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What differs between kernels, in one place: offsets (OFF_*, from BTF), tracepoint argument
 * numbers (ARG_*) and how an address is turned into its cache. slabmon/kernel/planning/plan.py
 * passes every macro used here as an integer.
 *
 * Each quirk names the commit, as in "git log", and the release that brought it.
 */
#ifndef SLABMON_KERNEL_H
#define SLABMON_KERNEL_H

#define PREEMPT_SOFTIRQ_OFFSET 256 /* SOFTIRQ_OFFSET */
#define ZERO_SIZE_PTR          16  /* kmalloc(0) returns it; kfree() of it is traced */

static __always_inline u64 read_u64(u64 address)
{
	u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u32 read_u32(u64 address)
{
	u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

#if HAVE_CACHE_BY_KFUNC
/*
 * a992d7a39791 "mm/bpf: Add bpf_get_kmem_cache() kfunc" (6.13). Compiled as a helper call to
 * the function's BTF id; the loader sets src_reg to BPF_PSEUDO_KFUNC_CALL. The verifier allows
 * no arithmetic on the result until it has been stored to a map value and read back, hence
 * *scratch.
 */
static void *(*bpf_get_kmem_cache)(u64 address) = (void *)KFUNC_GET_KMEM_CACHE;

static __always_inline u64 cache_by_kfunc(u64 address, volatile u64 *scratch)
{
	*scratch = (u64)bpf_get_kmem_cache(address);
	return *scratch;
}

#if HAVE_PAGE_LOOKUP_INLINE
/*
 * a35b9af4ec2c "bpf: Add a kfunc for generic type cast" (6.2). The verifier replaces this call
 * by nothing; reads of the result that fail give 0.
 */
static u64 *(*bpf_rdonly_cast)(u64 address, u32 type) = (void *)KFUNC_RDONLY_CAST;

static __always_inline u64 read_inline(u64 address)
{
	u64 value = *(volatile u64 *)bpf_rdonly_cast(address, BTF_WORD_TYPE);

	barrier_var(value); /* or clang merges this load with those of other pointers */
	return value;
}

/*
 * As bpf_get_kmem_cache() does it, but inline: to the struct page, its head, the slab test. A
 * tail page points to its head up to 7.0 only.
 */
static __always_inline u64 cache_by_page(u64 page_base, u64 address)
{
	u64 page = page_base + (address >> PAGE_SHIFT) * PAGE_STRUCT_BYTES;
	u64 head = read_inline(page + OFF_PAGE_COMPOUND_HEAD);

	if (head & 1)
		page = head - 1;
	if ((read_inline(page + OFF_PAGE_SLAB_TEST) & PAGE_SLAB_MASK) != PAGE_SLAB_VALUE)
		return 0;
	return read_inline(page + OFF_SLAB_CACHE);
}
#endif

static __always_inline u64 slab_cache_of(struct shared *shared, u64 address, volatile u64 *scratch)
{
#if HAVE_PAGE_LOOKUP_INLINE
	u64 page_base = shared->control.page_base;

	if (likely(page_base))
		return cache_by_page(page_base, address);
#endif
	return cache_by_kfunc(address, scratch);
}
#elif HAVE_CACHE_BY_PAGE
/*
 * For kernels before 6.13: virt_to_head_page() and PageSlab() by hand (include/linux/mm.h,
 * page-flags.h). That is the struct page of the address, its head, the slab test, then
 * slab_cache, which is in struct slab since d122019bf061 "mm: Split slab into its own type"
 * (5.17). The slab test is a bit of page->flags before, and of page->page_type since
 * 46df8e73a4a3 "mm: free up PG_slab" (6.10); its upper byte since 4ffca5a96678 "mm: support
 * only one page_type per page" (6.12).
 */
static __always_inline u64 slab_cache_of(struct shared *shared, u64 address, volatile u64 *scratch)
{
	u64 page, head;

	page = shared->control.vmemmap_base +
	       ((address - shared->control.direct_map_base) >> PAGE_SHIFT) * PAGE_STRUCT_BYTES;
	head = read_u64(page + OFF_PAGE_COMPOUND_HEAD);
	if (head & 1)
		page = head - 1;
	if ((read_u32(page + OFF_PAGE_SLAB_TEST) & PAGE_SLAB_MASK) != PAGE_SLAB_VALUE)
		return 0;
	return read_u64(page + OFF_SLAB_CACHE);
}
#else
static __always_inline u64 slab_cache_of(struct shared *shared, u64 address, volatile u64 *scratch)
{
	return 0;
}
#endif

static __always_inline u64 read_word_of(u64 address)
{
#if HAVE_PAGE_LOOKUP_INLINE
	return read_inline(address);
#else
	return read_u64(address);
#endif
}

/*
 * What this CPU is doing, as interrupt_context_level() tells it (include/linux/preempt.h). In
 * softirqs, the count of disabled softirqs is odd; elsewhere it is even. On arm64 the preemption
 * count is in the task's thread_info. On x86-64 it is a per-CPU variable, and so is the runqueue
 * to which the current task leads. With PREEMPT_RT, the count of softirqs is the task's.
 */
static __always_inline u32 current_context(void)
{
#if HAVE_CONTEXT
	u64 task = bpf_get_current_task();
	u32 count, softirqs;
#if OFF_TASK_PREEMPT_COUNT
	count = read_word_of(task + OFF_TASK_PREEMPT_COUNT);
#else
	u64 runqueue = read_word_of(read_word_of(task + OFF_TASK_CFS_RQ) + OFF_CFS_RQ_RQ);

	if (!runqueue)
		return CONTEXT_UNKNOWN;
	count = read_word_of(runqueue - OFF_PER_CPU_RUNQUEUE + OFF_PER_CPU_PREEMPT_COUNT);
#endif
	softirqs = OFF_TASK_SOFTIRQ_COUNT ? read_word_of(task + OFF_TASK_SOFTIRQ_COUNT) : count;
	if (count & PREEMPT_NMI_MASK)
		return CONTEXT_NMI;
	if (count & PREEMPT_HARDIRQ_MASK)
		return CONTEXT_IRQ;
	return softirqs & PREEMPT_SOFTIRQ_OFFSET ? CONTEXT_SOFTIRQ : CONTEXT_TASK;
#else
	return CONTEXT_UNKNOWN;
#endif
}

/* Larger than KMALLOC_MAX_CACHE_SIZE (include/linux/slab.h): in whole pages, not in a slab. */
static __always_inline bool is_page_backed(u64 bytes)
{
	return bytes > 2ull << PAGE_SHIFT;
}

/*
 * Since 6.11 a large kmalloc of a size not known to the compiler is traced twice: first with a
 * call site inside the allocator's own entry points, then with the caller's. The first event is
 * dropped, by the address ranges of those functions.
 */
static __always_inline bool is_inner_large_event(const struct control *control, u64 site)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < LARGE_ENTRIES; i += 2) {
		if (site >= control->large_entries[i] && site < control->large_entries[i + 1])
			return true;
	}
	return false;
}

/*
 * The text of modules: core_layout and init_layout before ac3b43283923 "module: replace
 * module_layout with module_memory" (6.4), mem[] since.
 */
static __always_inline u64 module_page(u64 address)
{
	return (address >> MODULE_PAGE_SHIFT) & (MODULE_PAGES - 1);
}

static __always_inline void read_cache_record(struct cache_record *record, u64 cache)
{
	record->flags = HAVE_64BIT_CACHE_FLAGS ? read_u64(cache + OFF_CACHE_FLAGS)
	                                       : read_u32(cache + OFF_CACHE_FLAGS);
	record->object_size = read_u32(cache + OFF_CACHE_OBJECT_SIZE);
	record->size = read_u32(cache + OFF_CACHE_SIZE);
	bpf_probe_read_kernel_str(record->name, sizeof(record->name),
	                          (void *)read_u64(cache + OFF_CACHE_NAME));
}

/*
 * The struct cgroup that is charged for what is allocated here, if anything is: the one that the
 * kernel has named for a while (set_active_memcg(), include/linux/sched/mm.h), else that of the
 * current task, in the hierarchy of the memory controller where that is one of cgroup v1.
 */
static __always_inline u64 charged_cgroup(void)
{
#if HAVE_CGROUPS
	u64 task = bpf_get_current_task();
	u64 sets = read_u64(task + OFF_TASK_CGROUPS);
	u64 css = OFF_TASK_ACTIVE_MEMCG ? read_u64(task + OFF_TASK_ACTIVE_MEMCG) : 0;

	if (!css && OFF_CSS_SET_MEMORY)
		css = read_u64(sets + OFF_CSS_SET_MEMORY);
	return css ? read_u64(css + OFF_CSS_CGROUP) : read_u64(sets + OFF_CSS_SET_CGROUP);
#else
	return 0;
#endif
}

static __always_inline u64 cgroup_id(u64 cgroup)
{
	return cgroup ? read_u64(read_u64(cgroup + OFF_CGROUP_KN) + OFF_KN_ID) : 0;
}

/* cgroup_id(charged_cgroup()), in half of the calls where that is the task's of cgroup v2. */
static __always_inline u64 charged_cgroup_id(void)
{
#if HAVE_CGROUPS && !OFF_CSS_SET_MEMORY
	if (!OFF_TASK_ACTIVE_MEMCG || !read_u64(bpf_get_current_task() + OFF_TASK_ACTIVE_MEMCG))
		return bpf_get_current_cgroup_id();
#endif
	return cgroup_id(charged_cgroup());
}

/*
 * The id of a cgroup's ancestor at a level of the hierarchy, 0 if the cgroup is above that. Before
 * 6.1 a cgroup has the ids of its ancestors, and no pointers (kernel commit 7f203bc89eb6).
 */
static __always_inline u64 ancestor_cgroup_id(u64 cgroup, u32 level)
{
	if (level > read_u32(cgroup + OFF_CGROUP_LEVEL))
		return 0;
	if (OFF_CGROUP_ANCESTOR_IDS)
		return read_u64(cgroup + OFF_CGROUP_ANCESTOR_IDS + 8 * level);
	return cgroup_id(read_u64(cgroup + OFF_CGROUP_ANCESTORS + 8 * level));
}

static __always_inline void read_driver_names(u64 driver, char *name, char *module)
{
	u64 owner;

	bpf_probe_read_kernel_str(name, 64, (void *)read_u64(driver + OFF_DRIVER_NAME));
	owner = read_u64(driver + OFF_DRIVER_OWNER);
	if (owner)
		bpf_probe_read_kernel_str(module, 56, (void *)(owner + OFF_MODULE_NAME));
}

/* The names sysfs shows: kobject name; subsystem (bus, else class); driver; its module. */
static __always_inline void read_device_names(u64 device, char *name, char *bus, char *driver,
                                              char *module)
{
	u64 subsystem = read_u64(device + OFF_DEVICE_BUS);
	u64 pointer;

	name[0] = bus[0] = driver[0] = module[0] = 0;
	pointer = read_u64(device + OFF_DEVICE_KOBJ + OFF_KOBJECT_NAME);
	bpf_probe_read_kernel_str(name, 64, (void *)pointer);
	if (subsystem) {
		pointer = read_u64(subsystem + OFF_BUS_NAME);
	} else {
		subsystem = read_u64(device + OFF_DEVICE_CLASS);
		pointer = subsystem ? read_u64(subsystem + OFF_CLASS_NAME) : 0;
	}
	if (pointer)
		bpf_probe_read_kernel_str(bus, 32, (void *)pointer);
	pointer = read_u64(device + OFF_DEVICE_DRIVER);
	if (pointer)
		read_driver_names(pointer, driver, module);
}

#endif
