/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Exact mode of a process tree: a process and all that it and its descendants start. There is a
 * mark for each possible process ID in the initial namespace.
 *
 * A fork gives the child the mark of its parent before the child first runs (kernel_clone(),
 * kernel/fork.c), marked or not, so that marks need not be removed when a process ends and its
 * ID is used again. Threads share the mark of their process; those that the kernel makes without
 * the event (io_uring, vhost) do too.
 */
#ifndef SLABMON_PROCESSES_H
#define SLABMON_PROCESSES_H

#if HAVE_PROCESS_TREE
/* 0 for an ID above PID_MAX_LIMIT (include/linux/threads.h), which there is none. */
static __always_inline u8 *process_mark(u32 tgid)
{
	struct process_marks *marks = process_marks_of(tgid / PROCESS_MARKS);

	return marks ? &marks->marks[tgid % PROCESS_MARKS] : 0;
}

static __always_inline bool in_process_tree(void)
{
	u8 *mark = process_mark(bpf_get_current_pid_tgid() >> 32);

	return mark && *mark;
}

static __always_inline void process_started(u64 task)
{
	u8 *parent = process_mark(bpf_get_current_pid_tgid() >> 32);
	u8 *child = process_mark(read_u32(task + OFF_TASK_TGID));

	if (parent && child)
		*(volatile u8 *)child = *parent;
}
#else
static __always_inline bool in_process_tree(void)
{
	return true;
}
#endif

#endif
