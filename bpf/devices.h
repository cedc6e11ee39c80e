/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Devices and modules: the walk over every device's managed resources (devres), and the events
 * that change them in between.
 */
#ifndef SLABMON_DEVICES_H
#define SLABMON_DEVICES_H

/* Stores the record of a cache that may never have appeared in an event. */
static __always_inline void introduce_node_cache(struct shared *shared, u64 key)
{
	struct cache_record record = {};

	if (is_known_cache(key))
		return;
	read_cache_record(&record, key & ~(u64)CACHE_GENERATION_MASK);
	if (store_cache(key, &record))
		__sync_fetch_and_add(&shared->control.caches_lost, 1);
}

/*
 * The slab object behind a devres node. The second node of a group ("grp>") lies inside the
 * object of the first (struct devres_group, drivers/base/devres.c).
 */
static __always_inline u64 node_cache(struct shared *shared, u64 node, const char *release,
                                      u64 bytes, volatile u64 *scratch, u32 *node_bytes)
{
	u64 cache, pages = PAGE_BYTES;

	*node_bytes = 0;
	if (*(u32 *)release == (u32)WORD('g', 'r', 'p', '>', 0, 0, 0, 0))
		return CACHE_UNKNOWN;
	cache = slab_cache_of(shared, node, scratch);
	if (cache) {
		*node_bytes = read_u32(cache + OFF_CACHE_SIZE);
		cache = cache_key(shared, cache);
		introduce_node_cache(shared, cache);
		return cache;
	}
	bytes += DEVRES_HEADER_BYTES;
#pragma clang loop unroll(disable)
	for (int order = 0; order < 11; order++)
		pages <<= pages < bytes;
	*node_bytes = pages;
	return CACHE_LARGE;
}

static __always_inline void fill_devres_event(struct shared *shared, struct devres_event *event,
                                              u64 device, u64 op, u64 node, u64 name, u64 bytes,
                                              volatile u64 *scratch)
{
	event->kind = EVENT_DEVRES;
	event->device = device;
	event->node = node;
	event->bytes = bytes;
	event->release[0] = event->op[0] = 0;
	bpf_probe_read_kernel_str(event->op, sizeof(event->op), (void *)op);
	bpf_probe_read_kernel_str(event->release, sizeof(event->release), (void *)name);
	read_device_names(device, event->name, event->bus, event->driver, event->module);
	event->cache = CACHE_UNKNOWN;
	event->node_bytes = 0;
	if (HAVE_CACHE_LOOKUP)
		event->cache = node_cache(shared, node, event->release, bytes, scratch,
		                          &event->node_bytes);
}

/* The size of the slab object that an address is in, 0 if it is in none. */
static __always_inline u32 object_bytes(struct shared *shared, u64 address, volatile u64 *scratch)
{
	u64 cache = 0;

	if ((s64)address < 0) /* a driver's data may be any number */
		cache = slab_cache_of(shared, address, scratch);
	return cache ? read_u32(cache + OFF_CACHE_SIZE) : 0;
}

/*
 * One step of the walk: `device`, its names, up to WALK_NODES of its nodes from the list entry
 * `cursor` on (0: from the start), and the next device. Nothing is locked: every link is checked
 * both ways, and a list that changed is reported torn and read again.
 */
static __always_inline void walk_step(struct shared *shared, struct walk *walk, u64 device,
                                      u64 cursor, volatile u64 *scratch)
{
	struct walk_device *out = &walk->device;
	u64 kobject = device + OFF_DEVICE_KOBJ, head = device + OFF_DEVICE_DEVRES;
	u64 entry, next, kset = read_u64(kobject + OFF_KOBJECT_KSET);

	out->status = out->count = 0;
	out->next = out->cursor = 0;
	out->kset = kset;
	next = read_u64(kobject + OFF_KOBJECT_ENTRY);
	if (!kset || !next || read_u64(next + 8) != kobject + OFF_KOBJECT_ENTRY) {
		out->status = WALK_GONE;
		return;
	}
	if (next == kset + OFF_KSET_LIST)
		next = read_u64(next);
	out->next = next - OFF_KOBJECT_ENTRY - OFF_DEVICE_KOBJ;
	read_device_names(device, out->name, out->bus, out->driver, out->module);
	out->parent = read_u64(device + OFF_DEVICE_PARENT);
	out->data = read_u64(device + OFF_DEVICE_DATA);
	out->object_bytes = object_bytes(shared, device, scratch);
	out->data_bytes = object_bytes(shared, out->data, scratch);

	entry = cursor ? cursor : read_u64(head);
	for (int i = 0; i < WALK_NODES; i++) {
		struct walk_node *node = &walk->nodes[i];
		u64 address = entry - OFF_DEVRES_ENTRY;

		if (entry == head)
			return;
		next = entry ? read_u64(entry) : 0;
		if (!next || read_u64(next + 8) != entry) {
			out->status = WALK_TORN;
			return;
		}
		node->node = address;
		node->function = read_u64(address + OFF_DEVRES_RELEASE);
		node->bytes = 0;
		node->release[0] = 0;
#if HAVE_DEVRES_NAMES
		node->bytes = read_u64(address + OFF_DEVRES_SIZE);
		bpf_probe_read_kernel_str(node->release, sizeof(node->release),
		                          (void *)read_u64(address + OFF_DEVRES_NAME));
#endif
		node->cache = CACHE_UNKNOWN;
		node->node_bytes = 0;
		if (HAVE_CACHE_LOOKUP)
			node->cache = node_cache(shared, address, node->release, node->bytes,
			                         scratch, &node->node_bytes);
		out->count = i + 1;
		entry = next;
	}
	if (entry != head)
		out->cursor = entry;
}

#if HAVE_MODULES
/* Call sites in [base, base + bytes) count in new slots from this generation on. */
static __always_inline void stamp_text(struct shared *shared, u64 base, u64 bytes, u32 max,
                                       u32 generation)
{
	u64 page = 1 << MODULE_PAGE_SHIFT;
	u64 pages = ((base & (page - 1)) + bytes + page - 1) / page;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < max && i < pages; i++)
		shared->control.module_stamps[module_page(base + i * page)] = generation;
}

static __always_inline void stamp_module(struct shared *shared, u64 module, u32 generation)
{
	stamp_text(shared, read_u64(module + OFF_MODULE_BASE), read_u32(module + OFF_MODULE_BYTES),
	           MODULE_TEXT_MAX, generation);
	stamp_text(shared, read_u64(module + OFF_MODULE_INIT_BASE),
	           read_u32(module + OFF_MODULE_INIT_BYTES), MODULE_INIT_MAX, generation);
}

static __always_inline void fill_module_event(struct module_event *event, u32 kind, u64 module,
                                              u32 generation)
{
	event->kind = kind;
	event->generation = generation;
	event->base = read_u64(module + OFF_MODULE_BASE);
	event->bytes = read_u32(module + OFF_MODULE_BYTES);
	event->init_base = read_u64(module + OFF_MODULE_INIT_BASE);
	event->init_bytes = read_u32(module + OFF_MODULE_INIT_BYTES);
	event->name[0] = 0;
	bpf_probe_read_kernel_str(event->name, sizeof(event->name),
	                          (void *)(module + OFF_MODULE_NAME));
}
#endif

#endif
