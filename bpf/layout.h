/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records and limits shared by the BPF programs and slabmon/kernel/bpf/, which parses this
 * file: keep to `#define NAME integer`, LOSS(class, NAME) and flat structs of u8, u32, u64,
 * s32, s64 and char.
 */
#ifndef SLABMON_LAYOUT_H
#define SLABMON_LAYOUT_H

/*
 * A cache is identified by the address of its struct kmem_cache, which is 64-byte aligned, with
 * a generation in the low bits: addresses of destroyed caches are reused.
 */
#define CACHE_GENERATION_MASK 63
#define CACHE_GENERATIONS     16384 /* generation counters, by hash of the address */
#define CACHE_UNKNOWN         0
#define CACHE_LARGE           1 /* page-backed kmalloc */

/* Pages of module text, which no two modules share, over the GiB that x86-64 keeps for it. */
#define MODULE_PAGE_SHIFT 12
#define MODULE_PAGES      262144
#define MODULE_TEXT_MAX   4096 /* pages of one module's text: the verifier follows each */
#define MODULE_INIT_MAX   256  /* pages of its init text */

#define SLOT_PROBES 8 /* slots probed before an event is dropped and counted as lost */
#define SLOT_MATCH  1 /* the filter of exact mode selects this slot */
#define SLOT_META   2 /* objects of this cache are struct kmem_cache themselves; the highest */

/* What a CPU was doing when it allocated an object. */
#define CONTEXT_UNKNOWN 0
#define CONTEXT_TASK    1
#define CONTEXT_SOFTIRQ 2
#define CONTEXT_IRQ     3
#define CONTEXT_NMI     4

#define LARGE_ENTRIES    12      /* two for each function */
#define MAX_EXACT_CACHES 64      /* names of caches that the filter of exact mode may select */
#define POOL_STEP        4096    /* indices put into the pool in one step */
#define TAG_WAYS         8       /* pool indices whose tags share a cache line */
#define TAG_PROBES       5       /* lines of tags an object may be in */
#define PROCESS_IDS      4194304 /* PID_MAX_LIMIT of 64-bit kernels */
#define PROCESS_MARKS    4096    /* of them in one value of the map */
#define LIFETIMES        11      /* decades: below 10 us, below 100 us, ..., below 10000 s, above */
#define PATH_FRAMES      16 /* of a call path, innermost first, those of the program included */
#define ORDERS           16 /* orders of the page allocator, at least */

#define DMA_DEVICES 1024 /* devices whose DMA memory is counted */

#define DRIVER_PROBES 1024 /* driver probes that objects are known to be of, and tasks in one */
#define PROBE_DEPTH   8    /* probes within one another that are followed */

#define STACK_BYTES  2048 /* of a kernel stack that are copied, from the program on */
#define STACK_COPIES 8    /* of each stack, from its first samples */
#define STACK_REST   64   /* and one of so many later samples, a power of two */

#define BLOCK_PAGES  1 /* kinds of blocks: of the page allocator, */
#define BLOCK_PERCPU 2 /* and of the per-CPU allocator */

/*
 * Reasons for losses, by index into lane_head.lost. The class says what was lost: an allocation
 * (ALLOC), a free (FREE), an event that may be either (EVENT), a sample (SAMPLE), or a detail of
 * an event that was counted (DETAIL). slabmon/base/losses.py has the same classes.
 */
#define FOR_EACH_LOSS(LOSS)                                                                        \
	LOSS(ALLOC, SITE_SLOTS_FULL)        /* no free slot in the lane */                         \
	LOSS(FREE, CACHE_SLOTS_FULL)        /* no free slot in the lane */                         \
	LOSS(DETAIL, CACHE_TABLE_FULL)      /* a cache's name and sizes could not be stored */     \
	LOSS(EVENT, CACHE_UNRESOLVED)       /* the object's cache could not be found */            \
	LOSS(DETAIL, LARGE_FREE_SIZE)       /* a large kmalloc from before tracking: no size */    \
	LOSS(SAMPLE, SAMPLES_FULL)          /* table full (E2BIG) */                               \
	LOSS(SAMPLE, SAMPLE_ENOMEM)         /* ENOMEM */                                           \
	LOSS(SAMPLE, SAMPLE_EBUSY)          /* EBUSY: bucket locked on this CPU */                 \
	LOSS(SAMPLE, SAMPLE_OTHER)          /* any other error */                                  \
	LOSS(DETAIL, STACK_COLLISION)       /* sample without stack: another one has its slot */   \
	LOSS(DETAIL, STACK_ERROR)           /* sample without stack: any other error */            \
	LOSS(EVENT, NESTING)                /* nested too deeply on its CPU */                     \
	LOSS(DETAIL, UNOBSERVED_FREES_FULL) /* evidence of an unobserved free: table full */       \
	LOSS(EVENT, BULK_TOO_LONG)          /* objects of a bulk call beyond those looked at */    \
	LOSS(FREE, PLACES)                  /* pool index not given back: the stack was busy */

#define LOSS_INDEX(class, name) LOST_##name,
enum loss { FOR_EACH_LOSS(LOSS_INDEX) NR_LOSSES };
#define LOSS_COUNTERS 24 /* of a lane; NR_LOSSES of them are in use */

/* First 256 bytes of each lane. A lane belongs to one program on one CPU: single writer. */
struct lane_head {
	u64 depth;             /* programs nested on this CPU (kernels without a recursion guard) */
	s64 countdown;         /* bytes until the next sample */
	u64 scratch;           /* kfunc results become plain numbers by passing through here */
	u64 large_freed_bytes; /* bytes of page-backed kmalloc freed */
	u64 pool_used;         /* pool indices ever used, at least (without HAVE_TAGS) */
	u64 first_reference;   /* reference of the lane's first slot, set by the daemon */
	u64 bulk_cursor;       /* objects of a bulk call looked at so far */
	u64 bulk_slot;         /* slot that a bulk allocation counts in */
	u64 lost[LOSS_COUNTERS];
};

/* One kind of allocation: call site, GFP flags and size class. One cache line. */
struct alloc_slot {
	u64 site;         /* return address of the caller; 0: free slot */
	u64 gfp_size_key; /* gfp flags << 32 | bytes allocated (0: fixed by the cache) */
	u64 cache;        /* cache address | generation, or CACHE_* */
	u64 variant_key;  /* generation of its module << 32 | requested NUMA node + 1 */
	u64 count;        /* successful allocations */
	u64 requested_bytes;
	u32 failed;    /* allocations that returned NULL; stops at its maximum */
	u32 reference; /* index of this slot among those of all lanes */
	u32 flags;     /* SLOT_* */
	u32 size;      /* bytes one object occupies */
};

/* Frees into one cache. One cache line. */
struct free_slot {
	u64 cache; /* as in alloc_slot; 0: free slot */
	u64 count;
	u32 flags;
	u32 lifetimes[LIFETIMES]; /* of tracked objects, by decade */
};

/* A tracked allocation, at its index of the pool. One cache line. */
struct sample {
	u64 time_ns; /* CLOCK_MONOTONIC; 0: not in use, or being filled */
	u64 cgroup;  /* id of the cgroup that is charged, if any is: charged_cgroup_id() */
	u32 slot;    /* reference of its alloc_slot: cache, site, gfp flags */
	u32 requested_bytes;
	u32 allocated_bytes;
	u32 interval; /* mean bytes between samples when it was taken; 0: taken with certainty */
	u32 tgid;
	s32 stack;  /* stack id, or negative errno */
	u8 flags;   /* SLOT_MATCH */
	u8 context; /* CONTEXT_* */
	u8 reserved[2];
	u32 probe; /* number of the driver's probe that the task was in, or 0 */
	char comm[16];
};

/*
 * Bytes allocated per stack id, estimated from the samples. Ids are reused: `retired_*` is the
 * part of earlier stacks, written by the daemon only.
 */
struct stack_total {
	u64 bytes;
	u64 variance; /* of `bytes`, in units of 2^16 bytes squared */
	u64 retired_bytes;
	u64 retired_variance;
	u64 samples; /* since the stack has this id, those left out that should have been copied */
};

/* What lies on the kernel stack when an object is allocated. */
struct stack_copy {
	u64 place; /* address of the first word */
	s32 stack; /* stack id */
	u32 reserved;
	char words[STACK_BYTES];
};

/*
 * Blocks of one kind and size that were allocated with one stack. Bytes are estimated from the
 * tracked blocks; those of per-CPU memory are of one CPU.
 */
struct call_path {
	u64 frames[PATH_FRAMES];
	u64 size;       /* of a block, in bytes */
	u64 generation; /* in which the module text among the frames last changed; 0: none */
	u64 kind;       /* BLOCK_* */
	u64 failed;     /* allocations that failed */
	u64 bytes;
	u64 freed_bytes;
	u64 live_bytes;
	u64 live_variance; /* of `live_bytes`, in units of 2^16 bytes squared */
};

/* A tracked block: pages by their first struct page, per-CPU memory by its pointer. */
struct block {
	u64 path;     /* hash of its call path */
	u64 freed;    /* parts freed before the rest, one bit each */
	u64 share;    /* bytes that one part represents */
	u64 variance; /* as of the call path */
	u32 order;    /* 2^order pages */
	u32 parts;    /* that it can be split into: up to 64, one of all others */
};

/* A call of a driver's probe function for a device, as sysfs names them. */
struct driver_probe {
	u64 device;
	u32 outer; /* number of the probe that this one is within, or 0 */
	u32 reserved;
	char name[64];
	char bus[32];
	char driver[64];
	char module[56];
};

/*
 * DMA memory of a device, as sysfs names it, since tracking began. The daemon copies a record from
 * its start on: what is freed first, so that it is never more than what was allocated.
 */
struct dma_device {
	u64 frees;
	u64 freed_bytes;
	u64 allocs;
	u64 bytes;
	u64 failed;        /* allocations that failed */
	u64 earlier_frees; /* frees of what was allocated before tracking */
	u64 earlier_bytes;
	char name[64];
	char bus[32];
	char driver[64]; /* when it last allocated any with a driver bound */
	char module[56];
};

/* DMA memory that is known, by its address. */
struct dma_block {
	u64 device; /* hash of its names */
	u64 bytes;
};

/* What a cache is, read from its struct kmem_cache while it is alive. */
struct cache_record {
	u64 flags; /* slab_flags_t */
	u32 object_size;
	u32 size;
	char name[64];
};

/* Settings the programs read and the daemon may change while they run. */
struct control {
	u32 sample_interval;       /* mean bytes between samples */
	u32 module_generation;     /* grows with each module load and unload */
	u64 page_chance[ORDERS];   /* that pages are sampled, by order, in units of 2^-32 */
	u64 page_weight[ORDERS];   /* bytes that sampled ones represent */
	u64 page_variance[ORDERS]; /* of that, in units of 2^16 bytes squared */
	u64 split_orders; /* bit n: blocks of 2^n pages that may be freed in parts were tracked */
	u64 blocks_full;  /* blocks not tracked: table full, or its bucket locked */
	u64 paths_full;   /* blocks not tracked: no room for their call path */
	u64 block_stacks; /* blocks whose stack could not be read */
	u64 blocks_replaced; /* blocks whose free was not seen: another has their place */
	u64 block_parts;     /* frees of parts too small to be counted */
	u64 events_lost;     /* devres and module events: ring buffer full */
	u64 caches_lost;     /* caches behind managed resources: table full */
	u32 probes_begun;    /* driver probes so far: the number of the last one */
	u32 probing_tasks;   /* tasks that are in one */
	u64 probes_lost;     /* probes not followed: table full, or its bucket locked */
	u64 dma_lost;        /* events of DMA memory: table full, or its bucket locked */
	u64 dma_replaced;    /* DMA memory whose free was not seen: other memory has its address */
	u64 core_text;       /* start of the kernel's own text */
	u64 core_text_bytes;
	u64 large_entries[LARGE_ENTRIES]; /* [start, end) of allocator entry points, see kernel.h */
	u64 bulk_alloc_text[2];           /* [start, end) of kmem_cache_alloc_bulk() */
	u64 exact_site[4];                /* two [start, end) of call sites the filter selects */
	u64 exact_caches[MAX_EXACT_CACHES]; /* name_hash() of those it selects; 0: none */
	u64 page_base;       /* where address 0 would have its struct page (vmemmap.h) */
	u64 vmemmap_guess;   /* likely value of page_base */
	u32 vmemmap_probes;  /* objects that locate_vmemmap tried it with */
	u32 vmemmap_hits;    /* those of which it found the cache */
	u64 word;            /* result of read_word() */
	u64 direct_map_base; /* start of the direct map and of the struct pages, */
	u64 vmemmap_base;    /* on kernels without bpf_get_kmem_cache() */
	u8 cache_generation[CACHE_GENERATIONS];
	u32 module_stamps[MODULE_PAGES]; /* generation in which text there last changed */
	u32 log2_table[1026];            /* log2(1 + i / 1024) in units of 2^-26, i = 0..1024 */
	u32 weight_table[258];           /* x / (1 - exp(-x)) in units of 2^-16, x = i / 16 */
};

#define EVENT_DEVRES      1
#define EVENT_MODULE_LOAD 2
#define EVENT_MODULE_FREE 3

struct module_event {
	u32 kind;
	u32 generation; /* first generation with the module loaded, or without it */
	u64 base;
	u64 bytes;
	u64 init_base;
	u64 init_bytes;
	char name[56];
};

struct devres_event {
	u32 kind;
	u32 node_bytes; /* bytes the slab object behind the node occupies; 0: not known */
	u64 device;
	u64 node;
	u64 bytes;
	u64 cache;
	char op[8]; /* ADD, REM, REL, REPLACE */
	char release[64];
	char name[64];
	char bus[32];
	char driver[64];
	char module[56];
};

#define WALK_NODES 64 /* devres nodes read in one step of the walk */
#define WALK_TORN  1  /* the list changed under the walk: read this device again */
#define WALK_GONE  2  /* not, or no longer, a registered device */

struct walk_node {
	u64 node;
	u64 bytes;
	u64 cache;
	u64 function; /* address of the release function */
	u32 node_bytes;
	u32 reserved;
	char release[64];
};

/* One step of the device walk. The nodes, WALK_NODES of them, follow it. */
struct walk_device {
	u64 next;   /* next registered device */
	u64 cursor; /* list entry to resume at; 0: this device is done */
	u64 kset;   /* the set of all registered devices */
	u64 scratch;
	u64 parent;
	u64 data;         /* its driver's, or 0 */
	u32 object_bytes; /* size of the slab object that the device lies in; 0: not known */
	u32 data_bytes;   /* and of the one that `data` is in */
	u32 status;       /* WALK_* */
	u32 count;        /* nodes filled in */
	char name[64];
	char bus[32];
	char driver[64];
	char module[56];
};

#endif
