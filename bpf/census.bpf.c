// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The census reads kernel memory with these programs, run on demand (BPF_PROG_TEST_RUN) and
 * attached to nothing. They copy, and know no kernel structure: slabmon/kernel/census/ decodes.
 */
#include "compiler.h"

/* Mapped by the reader: the addresses to read from, and the data read. */
struct window {
	u64 addresses[GATHER_MAX];
	char data[WINDOW_BYTES + GATHER_BYTES];
};
/* bcc generates printing code for each element of a map's value type; bytes have few. */
struct window_bytes {
	char bytes[sizeof(struct window)];
};

BPF_F_TABLE("array", u32, struct window_bytes, window, 1, BPF_F_MMAPABLE);
BPF_TABLE("percpu_array", u32, u64, cpu_words, 1);

/* The loader makes window_value the address of the map's value (BPF_PSEUDO_MAP_VALUE). */
#define WINDOW ((struct window *)window_value)

/* Copies args[1] bytes at args[0]; returns 1 if they cannot be read. */
int read_block(struct bpf_raw_tracepoint_args *ctx)
{
	u64 bytes = ctx->args[1];

	barrier_var(bytes); /* or clang drops the check that the verifier needs */
	if (bytes > WINDOW_BYTES)
		return 1;
	return bpf_probe_read_kernel(WINDOW->data, bytes, (void *)ctx->args[0]) != 0;
}

/*
 * Copies args[1] bytes, GATHER_BYTES at most, at each of the first args[0] addresses, one after
 * another; what cannot be read is 0. Returns 1 if it cannot.
 */
int gather(struct bpf_raw_tracepoint_args *ctx)
{
	u64 count = ctx->args[0], bytes = ctx->args[1], to = 0;
	struct window *window = WINDOW;

	barrier_var(window); /* or clang adds to its address by |=, which is not for pointers */
	barrier_var(bytes);  /* or clang drops the check that the verifier needs */
	if (bytes > GATHER_BYTES)
		return 1;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < GATHER_MAX; i++) {
		/* Or clang counts down from a number that 5.10's verifier sees no end to. */
		barrier_var(i);
		if (i >= count)
			break;
		barrier_var(to);
		to &= WINDOW_BYTES - 1;
		bpf_probe_read_kernel(window->data + to, bytes, (void *)window->addresses[i]);
		to += bytes;
	}
	return 0;
}

/*
 * Stores the address of the current task, and that of this CPU's copy of a per-CPU variable,
 * which leads to all of this CPU's variables.
 */
int locate(struct bpf_raw_tracepoint_args *ctx)
{
	u32 zero = 0;
	u64 *word = cpu_words.lookup(&zero);

	if (!word)
		return 1;
	WINDOW->addresses[0] = bpf_get_current_task();
	WINDOW->addresses[1] = (u64)word;
	return 0;
}
