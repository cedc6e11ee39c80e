// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/slabmon_planted/: write a scenario's name to `run`; read what
 * it must have caused from `expected`, the scenarios from `scenarios`, the
 * machine's managed resources from `devres`, objects of known structs from `typed`; hold memory
 * that is no slab with `memory`. Two names are always there: "release" frees what scenarios still
 * hold, "reset" does so and forgets.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "planted.h"

static struct dentry *directory;
static DEFINE_MUTEX(running);

static int run_release(void)
{
	planted_drop_all(false);
	planted_orphans_free();
	return 0;
}

static int run_reset(void)
{
	planted_orphans_free();
	planted_reset();
	planted_ledger_reset();
	return 0;
}

static int run_typed_add(void)
{
	return planted_typed_add(directory->d_sb);
}

static const struct planted_scenario planted_typed[] = {
	{ "typed_add", run_typed_add },
	{ "typed_remove", planted_typed_remove },
	{},
};

static const struct planted_scenario *const tables[] = {
	planted_sizes,	  planted_flags,    planted_caches, planted_deferred,
	planted_contexts, planted_platform, planted_census, planted_typed,
	planted_orphans,  planted_held,	    planted_bugs,
};

static int run_named(const char *name)
{
	const struct planted_scenario *scenario;
	unsigned int i;

	if (!strcmp(name, "release"))
		return run_release();
	if (!strcmp(name, "reset"))
		return run_reset();
	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (scenario = tables[i]; scenario->name; scenario++)
			if (!strcmp(name, scenario->name))
				return scenario->run();
	return -EINVAL;
}

static ssize_t run_write(struct file *file, const char __user *text, size_t length, loff_t *at)
{
	char name[32];
	int error;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, text, length))
		return -EFAULT;
	name[length] = 0;
	mutex_lock(&running);
	error = run_named(strim(name));
	mutex_unlock(&running);
	return error ?: length;
}

static const struct file_operations run_operations = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = run_write,
};

static int expected_show(struct seq_file *out, void *unused)
{
	mutex_lock(&running);
	planted_show_records(out);
	planted_ledger_show(out);
	mutex_unlock(&running);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(expected);

static int scenarios_show(struct seq_file *out, void *unused)
{
	const struct planted_scenario *scenario;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (scenario = tables[i]; scenario->name; scenario++)
			seq_printf(out, "%s\n", scenario->name);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(scenarios);
DEFINE_SHOW_ATTRIBUTE(planted_walk);
DEFINE_SHOW_ATTRIBUTE(planted_typed);

static int memory_open(struct inode *inode, struct file *file)
{
	return single_open(file, planted_memory_show, NULL);
}

static const struct file_operations memory_operations = {
	.owner = THIS_MODULE,
	.open = memory_open,
	.read = seq_read,
	.write = planted_memory_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int pages_open(struct inode *inode, struct file *file)
{
	return single_open(file, planted_pages_show, NULL);
}

static const struct file_operations pages_operations = {
	.owner = THIS_MODULE,
	.open = pages_open,
	.read = seq_read,
	.write = planted_pages_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int dma_open(struct inode *inode, struct file *file)
{
	return single_open(file, planted_dma_show, NULL);
}

static const struct file_operations dma_operations = {
	.owner = THIS_MODULE,
	.open = dma_open,
	.read = seq_read,
	.write = planted_dma_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init planted_init(void)
{
	int error = planted_caches_init();

	if (error)
		return error;
	error = planted_look_check();
	if (error)
		goto no_census;
	error = planted_census_init();
	if (error)
		goto no_census;
	error = planted_files_init();
	if (error)
		goto no_files;
	directory = debugfs_create_dir("slabmon_planted", NULL);
	debugfs_create_file("run", 0200, directory, NULL, &run_operations);
	debugfs_create_file("expected", 0400, directory, NULL, &expected_fops);
	debugfs_create_file("scenarios", 0400, directory, NULL, &scenarios_fops);
	debugfs_create_file("devres", 0400, directory, NULL, &planted_walk_fops);
	debugfs_create_file("typed", 0400, directory, NULL, &planted_typed_fops);
	debugfs_create_file("memory", 0600, directory, NULL, &memory_operations);
	debugfs_create_file("pages", 0600, directory, NULL, &pages_operations);
	debugfs_create_file("dma", 0600, directory, NULL, &dma_operations);
	return 0;

no_files:
	planted_census_exit();
no_census:
	planted_caches_exit();
	return error;
}

static void __exit planted_exit(void)
{
	planted_typed_remove();
	debugfs_remove(directory);
	planted_memory_drop();
	planted_pages_drop();
	planted_dma_drop();
	planted_platform_exit();
	planted_held_exit();
	planted_bugs_exit();
	planted_files_exit();
	planted_contexts_exit();
	planted_drop_all(true);
	planted_orphans_free();
	planted_census_exit();
	planted_caches_exit();
}

module_init(planted_init);
module_exit(planted_exit);
MODULE_DESCRIPTION("Known allocations, for tests of slabmon");
MODULE_LICENSE("GPL");
