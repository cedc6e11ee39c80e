/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets the BPF programs run in a process: the kernel's types, bcc's maps and the helpers, with
 * memory, clock and task set by the test (tests/support/native.py).
 */
#include <setjmp.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;
typedef unsigned long size_t;
#define bool  _Bool
#define true  1
#define false 0

void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *one, const void *other, size_t bytes);

struct bpf_raw_tracepoint_args {
	u64 args[12];
};

/* Set by the test. */
u32 native_cpu, native_tgid, native_tid, native_random;
u64 native_time, native_task;
s32 native_stack;
u64 native_frames[24];
u32 native_no_tail_calls, native_stack_busy;
struct native_range {
	u64 start, end, value;
} native_memory[256], native_slabs[64];

#define native_find(ranges, address) \
	native_find_in(ranges, sizeof(ranges) / sizeof((ranges)[0]), address)

static struct native_range *native_find_in(struct native_range *ranges, u32 count, u64 address)
{
	for (u32 i = 0; i < count; i++)
		if (address >= ranges[i].start && address < ranges[i].end)
			return &ranges[i];
	return 0;
}

/* bpf_get_kmem_cache(): the cache of an address, by the test's slabs. */
static void *native_cache(u64 address)
{
	struct native_range *found = native_find(native_slabs, address);

	return found ? (void *)found->value : 0;
}

/* bpf_rdonly_cast(): reads of unmapped memory give 0. */
static u64 native_nothing[1];
static u64 *native_cast(u64 address, u32 type)
{
	return native_find(native_memory, address) ? (u64 *)address : native_nothing;
}

static long bpf_probe_read_kernel(void *to, u32 bytes, const void *from)
{
	struct native_range *found = native_find(native_memory, (u64)from);

	if (!found || (u64)from + bytes > found->end) {
		memset(to, 0, bytes);
		return -14;
	}
	memcpy(to, from, bytes);
	return 0;
}

static long bpf_probe_read_kernel_str(char *to, u32 bytes, const char *from)
{
	u32 i = 0;

	if (!native_find(native_memory, (u64)from))
		return -14;
	while (i + 1 < bytes && from[i]) {
		to[i] = from[i];
		i++;
	}
	to[i] = 0;
	return i + 1;
}

static long bpf_get_stack(void *context, void *to, u32 bytes, u64 flags)
{
	memcpy(to, native_frames + flags, bytes);
	return bytes;
}

/* The return value of a function follows all arguments it could have. */
static long bpf_get_func_arg(void *context, u32 number, u64 *value)
{
	*value = ((struct bpf_raw_tracepoint_args *)context)->args[number];
	return 0;
}

static long bpf_get_func_ret(void *context, u64 *value)
{
	return bpf_get_func_arg(context, 11, value);
}

static u64 bpf_ktime_get_ns(void)
{
	return native_time;
}
static u64 native_word(u64 address)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}
/* As the kernel: of the hierarchy of cgroup v2. */
static u64 bpf_get_current_cgroup_id(void)
{
	u64 sets = native_word(native_task + OFF_TASK_CGROUPS);
	u64 node = native_word(native_word(sets + OFF_CSS_SET_CGROUP) + OFF_CGROUP_KN);

	return native_word(node + OFF_KN_ID);
}
static u64 bpf_get_current_pid_tgid(void)
{
	return (u64)native_tgid << 32 | native_tid;
}
static u64 bpf_get_current_task(void)
{
	return native_task;
}
static u32 bpf_get_smp_processor_id(void)
{
	return native_cpu;
}
static u32 bpf_get_prandom_u32(void)
{
	native_random ^= native_random << 13;
	native_random ^= native_random >> 17;
	return native_random ^= native_random << 5;
}
static long bpf_get_current_comm(char *to, u32 bytes)
{
	memset(to, 0, bytes);
	memcpy(to, "native", 6);
	return 0;
}

#define BPF_F_TABLE(kind, key_type, leaf_type, name, max, flags)                                   \
	leaf_type name##_values[max] __attribute__((aligned(64)));                                 \
	static leaf_type *name##_lookup(key_type *key)                                             \
	{                                                                                          \
		return *key < (max) ? &name##_values[*key] : 0;                                    \
	}                                                                                          \
	static const struct {                                                                      \
		leaf_type *(*lookup)(key_type *);                                                  \
	} name = {name##_lookup}

/* A map's NAME_map is the address of its struct, which begins with lookup(). */
static void *bpf_map_lookup_elem(void *map, void *key)
{
	return (*(void *(**)(void *))map)(key);
}

/* A hash: entries 0 .. used - 1 in any order. */
#define BPF_TABLE(kind, key_type, leaf_type, name, max)                                            \
	key_type name##_keys[max];                                                                 \
	leaf_type name##_values[max] __attribute__((aligned(64)));                                 \
	u32 name##_used;                                                                           \
	static leaf_type *name##_lookup(key_type *key)                                             \
	{                                                                                          \
		for (u32 i = 0; i < name##_used; i++)                                              \
			if (name##_keys[i] == *key)                                                \
				return &name##_values[i];                                          \
		return 0;                                                                          \
	}                                                                                          \
	static long name##_update(key_type *key, leaf_type *leaf)                                  \
	{                                                                                          \
		leaf_type *found = name##_lookup(key);                                             \
                                                                                                   \
		if (!found && name##_used == (max))                                                \
			return -7;                                                                 \
		if (!found) {                                                                      \
			name##_keys[name##_used] = *key;                                           \
			found = &name##_values[name##_used++];                                     \
		}                                                                                  \
		memcpy(found, leaf, sizeof(*leaf));                                                \
		return 0;                                                                          \
	}                                                                                          \
	static long name##_insert(key_type *key, leaf_type *leaf)                                  \
	{                                                                                          \
		return name##_lookup(key) ? -17 : name##_update(key, leaf);                        \
	}                                                                                          \
	static long name##_delete(key_type *key)                                                   \
	{                                                                                          \
		leaf_type *found = name##_lookup(key);                                             \
                                                                                                   \
		if (!found)                                                                        \
			return -2;                                                                 \
		name##_used--;                                                                     \
		memcpy(found, &name##_values[name##_used], sizeof(*found));                        \
		name##_keys[found - name##_values] = name##_keys[name##_used];                     \
		return 0;                                                                          \
	}                                                                                          \
	static long name##_stackid(void *context, u64 flags)                                       \
	{                                                                                          \
		return native_stack;                                                               \
	}                                                                                          \
	static const struct {                                                                      \
		leaf_type *(*lookup)(key_type *);                                                  \
		long (*update)(key_type *, leaf_type *);                                           \
		long (*insert)(key_type *, leaf_type *);                                           \
		long (*delete)(key_type *);                                                        \
		long (*get_stackid)(void *, u64);                                                  \
	} name = {name##_lookup, name##_update, name##_insert, name##_delete, name##_stackid}

#define BPF_STACK(name, leaf_type, max)                                                            \
	leaf_type name##_values[max];                                                              \
	u32 name##_used;                                                                           \
	static long name##_push(leaf_type *leaf, u64 flags)                                        \
	{                                                                                          \
		if (native_stack_busy || name##_used == (max))                                     \
			return native_stack_busy ? -16 : -7;                                       \
		name##_values[name##_used++] = *leaf;                                              \
		return 0;                                                                          \
	}                                                                                          \
	static long name##_pop(leaf_type *leaf)                                                    \
	{                                                                                          \
		if (!name##_used)                                                                  \
			return -2;                                                                 \
		*leaf = name##_values[--name##_used];                                              \
		return 0;                                                                          \
	}                                                                                          \
	static const struct {                                                                      \
		long (*push)(leaf_type *, u64);                                                    \
		long (*pop)(leaf_type *);                                                          \
	} name = {name##_push, name##_pop}

/*
 * Runs a program, and then those it tail-calls: as in the kernel, a program does not continue
 * after its call unless that was refused; 33 calls in a row are allowed.
 */
typedef int native_program(struct bpf_raw_tracepoint_args *context);

static jmp_buf native_called;
static native_program *native_next;
static u32 native_calls;

void native_run(native_program *program, struct bpf_raw_tracepoint_args *context)
{
	native_next = program;
	native_calls = 0;
	_setjmp(native_called);
	native_next(context);
}

static void native_call(native_program *program)
{
	if (native_no_tail_calls || native_calls == 33)
		return;
	native_calls++;
	native_next = program;
	longjmp(native_called, 1);
}

#define BPF_PROG_ARRAY(name, max)                                                                  \
	native_program *name##_values[max];                                                        \
	static void name##_call(void *context, int place)                                          \
	{                                                                                          \
		native_call(name##_values[place]);                                                 \
	}                                                                                          \
	static const struct {                                                                      \
		void (*call)(void *, int);                                                         \
	} name = {name##_call}

/* The last event only; native_events_full makes the buffer full. */
#define BPF_RINGBUF_OUTPUT(name, pages)                                                            \
	char name##_values[4096] __attribute__((aligned(8)));                                      \
	u32 name##_used, native_events_full;                                                       \
	static void *name##_reserve(u64 bytes)                                                     \
	{                                                                                          \
		return native_events_full ? 0 : name##_values;                                     \
	}                                                                                          \
	static void name##_submit(void *data, u64 flags)                                           \
	{                                                                                          \
		name##_used++;                                                                     \
	}                                                                                          \
	static const struct {                                                                      \
		void *(*ringbuf_reserve)(u64);                                                     \
		void (*ringbuf_submit)(void *, u64);                                               \
	} name = {name##_reserve, name##_submit}
