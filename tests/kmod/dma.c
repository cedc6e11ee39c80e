// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that a driver allocates for DMA: write "hold", "less" (which frees some of it), "gone"
 * (which removes the devices, but not their memory) or "drop" to `dma`; read from it a line for
 * each device: its name, then since the module was loaded allocations, frees, failures, bytes
 * allocated and bytes freed.
 */
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "planted.h"

#define DEVICES 2
#define MOST 101
#define FAILURES 5
#define TOO_MUCH (1ULL << 40)

struct planted_dma {
	void *memory;
	dma_addr_t handle;
};

/* A way to allocate, and for each device how often, and how many of these "less" frees. */
struct planted_dma_kind {
	size_t size;
	unsigned int count[DEVICES], less[DEVICES];
	void (*get)(struct device *dev, size_t size, struct planted_dma *dma);
	void (*put)(struct device *dev, size_t size, struct planted_dma *dma);
	bool managed; /* freed by the driver core when the device is removed */
};

static void get_coherent(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma->memory = dma_alloc_coherent(dev, size, &dma->handle, GFP_KERNEL);
}

static void put_coherent(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma_free_coherent(dev, size, dma->memory, dma->handle);
}

static void get_managed(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma->memory = dmam_alloc_coherent(dev, size, &dma->handle, GFP_KERNEL);
}

static void put_managed(struct device *dev, size_t size, struct planted_dma *dma)
{
	dmam_free_coherent(dev, size, dma->memory, dma->handle);
}

static void get_pages(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma->memory = dma_alloc_pages(dev, size, &dma->handle, DMA_FROM_DEVICE, GFP_KERNEL);
}

static void put_pages(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma_free_pages(dev, size, dma->memory, dma->handle, DMA_FROM_DEVICE);
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 13, 0)
static void get_scattered(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma->memory = dma_alloc_noncontiguous(dev, size, DMA_TO_DEVICE, GFP_KERNEL, 0);
}

static void put_scattered(struct device *dev, size_t size, struct planted_dma *dma)
{
	dma_free_noncontiguous(dev, size, dma->memory, DMA_TO_DEVICE);
}
#endif

static const struct planted_dma_kind kinds[] = {
	{ .size = 5003, .count = { 101, 67 }, .less = { 31, 0 }, get_coherent, put_coherent },
	{ .size = 1009, .count = { 11, 0 }, .less = { 3, 0 }, get_managed, put_managed, true },
	{ .size = 9001, .count = { 0, 13 }, .less = { 0, 5 }, get_pages, put_pages },
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 13, 0)
	{ .size = 70001, .count = { 7, 17 }, .less = { 2, 3 }, get_scattered, put_scattered },
#endif
};

/* What each device holds, and all that it ever had. The reference outlasts its registration. */
static struct {
	struct platform_device *device;
	bool registered;
	unsigned int held[ARRAY_SIZE(kinds)];
	struct planted_dma memory[ARRAY_SIZE(kinds)][MOST];
	unsigned long allocs, frees, failures, bytes, freed_bytes;
} cards[DEVICES];

static int dma_probe(struct platform_device *device)
{
	return dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(32));
}

static struct platform_driver dma_driver = {
	.probe = dma_probe,
	.driver = { .name = "slabmon_dma" },
};
static bool have_driver;

static int add_devices(void)
{
	unsigned int i;

	if (have_driver)
		return 0;
	if (platform_driver_register(&dma_driver))
		return -EBUSY;
	have_driver = true;
	for (i = 0; i < DEVICES; i++) {
		struct platform_device *device =
			platform_device_register_simple("slabmon_dma", i, NULL, 0);

		if (IS_ERR(device))
			return PTR_ERR(device);
		get_device(&device->dev);
		cards[i].device = device;
		cards[i].registered = true;
	}
	return 0;
}

static void count_free(unsigned int card, unsigned int kind)
{
	cards[card].frees++;
	cards[card].freed_bytes += kinds[kind].size;
}

static void hold(unsigned int card, unsigned int kind)
{
	const struct planted_dma_kind *how = &kinds[kind];
	unsigned int *held = &cards[card].held[kind];

	while (*held < how->count[card]) {
		struct planted_dma *dma = &cards[card].memory[kind][*held];

		how->get(&cards[card].device->dev, how->size, dma);
		if (!dma->memory)
			break;
		++*held;
		cards[card].allocs++;
		cards[card].bytes += how->size;
	}
}

static void drop(unsigned int card, unsigned int kind, unsigned int count)
{
	unsigned int *held = &cards[card].held[kind];

	while (count-- && *held) {
		kinds[kind].put(&cards[card].device->dev, kinds[kind].size,
				&cards[card].memory[kind][--*held]);
		count_free(card, kind);
	}
}

static void fail(unsigned int card)
{
	dma_addr_t handle;
	unsigned int n;

	for (n = 0; n < FAILURES; n++) {
		if (!dma_alloc_coherent(&cards[card].device->dev, TOO_MUCH, &handle,
					GFP_KERNEL | __GFP_NOWARN))
			cards[card].failures++;
	}
}

static void remove_devices(void)
{
	unsigned int i, kind;

	for (i = 0; i < DEVICES; i++) {
		if (!cards[i].registered)
			continue;
		platform_device_unregister(cards[i].device);
		cards[i].registered = false;
		for (kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
			while (kinds[kind].managed && cards[i].held[kind]) {
				cards[i].held[kind]--;
				count_free(i, kind);
			}
		}
	}
	if (have_driver)
		platform_driver_unregister(&dma_driver);
	have_driver = false;
}

void planted_dma_drop(void)
{
	unsigned int i, kind;

	for (i = 0; i < DEVICES; i++) {
		for (kind = 0; kind < ARRAY_SIZE(kinds); kind++)
			drop(i, kind, MOST);
	}
	remove_devices();
	for (i = 0; i < DEVICES; i++) {
		if (cards[i].device)
			put_device(&cards[i].device->dev);
		cards[i].device = NULL;
	}
}

ssize_t planted_dma_write(struct file *file, const char __user *text, size_t length, loff_t *at)
{
	char name[8];
	unsigned int i, kind;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, text, length))
		return -EFAULT;
	name[length] = 0;
	if (!strcmp(strim(name), "drop")) {
		planted_dma_drop();
	} else if (!strcmp(strim(name), "gone")) {
		remove_devices();
	} else if (!strcmp(strim(name), "less")) {
		for (i = 0; i < DEVICES; i++) {
			for (kind = 0; kind < ARRAY_SIZE(kinds); kind++)
				drop(i, kind, kinds[kind].less[i]);
		}
	} else {
		if (add_devices())
			return -ENODEV;
		for (i = 0; i < DEVICES; i++) {
			for (kind = 0; kind < ARRAY_SIZE(kinds); kind++)
				hold(i, kind);
		}
		fail(0);
	}
	return length;
}

int planted_dma_show(struct seq_file *out, void *unused)
{
	unsigned int i;

	for (i = 0; i < DEVICES; i++)
		seq_printf(out, "slabmon_dma.%u %lu %lu %lu %lu %lu\n", i, cards[i].allocs,
			   cards[i].frees, cards[i].failures, cards[i].bytes, cards[i].freed_bytes);
	return 0;
}
