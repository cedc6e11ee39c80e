// SPDX-License-Identifier: GPL-2.0-only
/* Device files: one object per open(), the same with a leak, one for the module's life. */
#include <linux/cdev.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "planted.h"

#define PER_OPEN 313
#define PER_LEAK 331
#define LIFETIME 1201

static planted_site void *planted_open_alloc(void)
{
	void *object = kmalloc(PER_OPEN, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_leak_alloc(void)
{
	void *object = kmalloc(PER_LEAK, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static planted_site void *planted_chardev_alloc(void)
{
	void *object = kmalloc(LIFETIME, GFP_KERNEL);

	planted_keep(object);
	return object;
}

/* No release function: these objects are not the module's to free at "release". */
static const struct planted_how per_open = {
	.site = "planted_open_alloc",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "kfree",
	.lasting = true,
};
static const struct planted_how per_leak = {
	.site = "planted_leak_alloc",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "never",
	.lasting = true,
};
static const struct planted_how lifetime = {
	.site = "planted_chardev_alloc",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "kfree",
	.lasting = true,
	.release = planted_by_kfree,
};

static int open_file(struct inode *inode, struct file *file)
{
	file->private_data = planted_open_alloc();
	if (!file->private_data)
		return -ENOMEM;
	planted_take(&per_open, file->private_data, PER_OPEN);
	return 0;
}

static int close_file(struct inode *inode, struct file *file)
{
	planted_forget(&per_open, file->private_data);
	kfree(file->private_data);
	return 0;
}

static int open_leak(struct inode *inode, struct file *file)
{
	void *object = planted_leak_alloc();

	if (!object)
		return -ENOMEM;
	planted_take(&per_leak, object, PER_LEAK);
	return 0;
}

static const struct file_operations open_operations = {
	.owner = THIS_MODULE,
	.open = open_file,
	.release = close_file,
};

/* The planted bug: no release, so each open() leaves its object behind (bugs.c says whose). */
static const struct file_operations leak_operations = {
	.owner = THIS_MODULE,
	.open = open_leak,
};

static struct miscdevice open_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "slabmon_planted_open",
	.fops = &open_operations,
};
static struct miscdevice leak_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "slabmon_planted_leak",
	.fops = &leak_operations,
};

static const struct file_operations char_operations = {
	.owner = THIS_MODULE,
};
static struct cdev char_device;
static dev_t char_number;

int planted_files_init(void)
{
	unsigned int n;
	int error = misc_register(&open_device);

	if (error)
		return error;
	error = misc_register(&leak_device);
	if (error)
		goto no_leak;
	error = alloc_chrdev_region(&char_number, 0, 1, "slabmon_planted");
	if (error)
		goto no_number;
	cdev_init(&char_device, &char_operations);
	error = cdev_add(&char_device, char_number, 1);
	if (error)
		goto no_char;
	for (n = 0; n < 5; n++)
		planted_take(&lifetime, planted_chardev_alloc(), LIFETIME);
	return 0;

no_char:
	unregister_chrdev_region(char_number, 1);
no_number:
	misc_deregister(&leak_device);
no_leak:
	misc_deregister(&open_device);
	return error;
}

void planted_files_exit(void)
{
	cdev_del(&char_device);
	unregister_chrdev_region(char_number, 1);
	misc_deregister(&leak_device);
	misc_deregister(&open_device);
}
