/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A module that knows the answer: it allocates prime numbers of objects in
 * named functions and publishes what an exact observer must have seen.
 *
 * Every allocation happens in a separate function marked planted_site, so that
 * its symbol is the call site of the kernel's tracepoints. A function
 * returns one object; loops and bookkeeping are elsewhere. Bookkeeping never
 * allocates.
 */
#ifndef SLABMON_PLANTED_H
#define SLABMON_PLANTED_H

#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/types.h>
#include <linux/version.h>

/*
 * noipa: no inlining, no clone with a ".constprop" name, and the compiler knows
 * nothing about the arguments. A site must also not end in a tail call, which
 * would make its caller the call site: planted_keep() comes after the call.
 */
#define planted_site __attribute__((noipa))
#define planted_keep(pointer) OPTIMIZER_HIDE_VAR(pointer)

/*
 * Default numbers of allocations and of frees per site: primes, so that no
 * wrong factor, round number or page count can pass by luck.
 */
#define PLANTED_ALLOCS 101
#define PLANTED_FREES 31

/* How a kind of object comes and goes; one record per site and cache. */
struct planted_how {
	const char *site; /* symbol of the allocating function */
	const char *gfp; /* class: kernel, atomic, nowait, ... */
	const char *alloc; /* kernel function or event that allocates */
	const char *free; /* kernel function that frees */
	bool lasting; /* not a scenario's to free: "release" and "reset" spare it */
	void (*release)(const struct planted_how *how, void **objects, unsigned int count);
	struct kmem_cache **cache; /* for objects of the module's caches */
	bool pages; /* not slab memory but whole pages */
};

/* What an object really is, read from its own slab. */
struct planted_slab {
	const char *cache;
	size_t size;
};

/* records.c */
void planted_take(const struct planted_how *how, void *object, size_t requested);
void planted_add(const struct planted_how *how, void *example, size_t requested,
		 unsigned int allocs, unsigned int frees);
void planted_drop(const struct planted_how *how, unsigned int count);
void planted_forget(const struct planted_how *how, void *object);
void planted_drop_all(bool lasting);
void planted_reset(void);
struct seq_file;
void planted_show_records(struct seq_file *out);
void planted_by_kfree(const struct planted_how *how, void **objects, unsigned int count);
void planted_by_cache(const struct planted_how *how, void **objects, unsigned int count);

#define PLANTED_KMALLOC(function, class) \
	{ .site = #function, \
	  .gfp = class, \
	  .alloc = "kmalloc", \
	  .free = "kfree", \
	  .release = planted_by_kfree }

/* private.c */
void planted_look(const void *object, size_t requested, struct planted_slab *slab);
int planted_look_check(void);

struct device;
struct planted_node {
	const char *name; /* NULL before 5.14: use the release function's symbol */
	void *release;
	ssize_t size; /* -1 before 5.14 */
	size_t slab; /* what the object it lies in takes; 0 for one that shares it */
};
int planted_nodes(struct device *dev, void (*each)(const struct planted_node *, void *),
		  void *context);

/* walk.c */
int planted_walk_show(struct seq_file *out, void *unused);

/* memory.c */
ssize_t planted_memory_write(struct file *file, const char __user *text, size_t length, loff_t *at);
int planted_memory_show(struct seq_file *out, void *unused);
void planted_memory_drop(void);

/* pages.c */
ssize_t planted_pages_write(struct file *file, const char __user *text, size_t length, loff_t *at);
int planted_pages_show(struct seq_file *out, void *unused);
void planted_pages_drop(void);

/* dma.c */
ssize_t planted_dma_write(struct file *file, const char __user *text, size_t length, loff_t *at);
int planted_dma_show(struct seq_file *out, void *unused);
void planted_dma_drop(void);

/* ledger.c: what each planted device must hold */
void planted_ledger_add(struct device *dev, const char *release, size_t size);
void planted_ledger_remove(struct device *dev, const char *release, size_t size);
void planted_ledger_clear(struct device *dev);
void planted_ledger_reset(void);
void planted_ledger_show(struct seq_file *out);

/* managed.c */
int planted_manage(struct device *dev);
void planted_manage_in_vain(struct device *dev);
void planted_manage_end(struct device *dev);

struct planted_scenario {
	const char *name;
	int (*run)(void);
};

/* Tables ended by an entry without a name. */
extern const struct planted_scenario planted_sizes[];
extern const struct planted_scenario planted_flags[];
extern const struct planted_scenario planted_caches[];
extern const struct planted_scenario planted_deferred[];
extern const struct planted_scenario planted_contexts[];
extern const struct planted_scenario planted_platform[];
extern const struct planted_scenario planted_census[];
extern const struct planted_scenario planted_orphans[];
extern const struct planted_scenario planted_held[];
extern const struct planted_scenario planted_bugs[];

/* typed.c */
struct super_block;
int planted_typed_add(struct super_block *super);
int planted_typed_remove(void);
int planted_typed_show(struct seq_file *out, void *unused);
int planted_typed_note(const char *name, const void *object, size_t size);
void *planted_typed_new(const char *name, size_t size);

/* structs.c */
int planted_structs_add(struct super_block *super);
void planted_structs_remove(void);

int planted_caches_init(void);
void planted_caches_exit(void);
int planted_files_init(void);
void planted_files_exit(void);
void planted_platform_exit(void);
void planted_contexts_exit(void);
int planted_census_init(void);
void planted_census_exit(void);
void planted_orphans_free(void);
void planted_scrub_stack(unsigned int depth);
void planted_held_exit(void);
void planted_bugs_exit(void);

extern struct kmem_cache *planted_ctor_cache;

#endif
