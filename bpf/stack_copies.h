/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies of kernel stacks, in which the daemon looks for pointers to devices. The callers of an
 * allocation keep what they need after it on the stack, or in registers, which functions that they
 * call save there.
 *
 * The kernel's stack begins where the context of the program is: bpf_trace_runN()
 * (kernel/trace/bpf_trace.c) and the trampolines of fentry and fexit have it among their locals.
 */
#ifndef SLABMON_STACK_COPIES_H
#define SLABMON_STACK_COPIES_H

/* Copies the stack of a sample if few copies were made of it. Where there is no room, later. */
static __always_inline void copy_stack(struct bpf_raw_tracepoint_args *ctx, struct lane_head *head,
                                       s32 stack, struct stack_total *total)
{
#if HAVE_STACK_COPIES
	u64 samples = ++total->samples, place;
	struct stack_copy *copy;

	if (likely(samples > STACK_COPIES && samples & (STACK_REST - 1)))
		return;
	copy = reserve_stack_copy();
	if (!copy) {
		total->samples--;
		return;
	}
	place = hide_from_verifier(&head->scratch, (u64)ctx);
	copy->place = place;
	copy->stack = stack;
	/* What does not fit into its pages is not readable: then up to the end of the first one. */
	if (bpf_probe_read_kernel(copy->words, STACK_BYTES, (void *)place))
		bpf_probe_read_kernel(copy->words,
		                      (PAGE_BYTES - (place & (PAGE_BYTES - 1))) & (STACK_BYTES - 1),
		                      (void *)place);
	submit_stack_copy(copy);
#endif
}

#endif
