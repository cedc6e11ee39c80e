/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Probes of drivers: what a task allocates while the driver core has a driver probe a device
 * (really_probe(), drivers/base/dd.c) is memory of that device. A probe that registers another
 * device may have it probed in turn, in the same task: memory is that of the innermost.
 *
 * What a probe leaves to other tasks is not known to be of the device.
 */
#ifndef SLABMON_PROBES_H
#define SLABMON_PROBES_H

/* The number of the probe that the current task is in, or 0. */
static __always_inline u32 current_probe(struct shared *shared)
{
#if HAVE_DRIVER_PROBES
	u32 *number;

	if (likely(!shared->control.probing_tasks))
		return 0;
	number = probe_of_task(bpf_get_current_pid_tgid());
	return number ? *number : 0;
#else
	return 0;
#endif
}

#if HAVE_DRIVER_PROBES
/* The current task goes back to the probe that the one which ended was within. */
static __always_inline void leave_probe(struct shared *shared, u32 task, u32 outer)
{
	set_probe_of_task(task, outer);
	if (!outer)
		__sync_fetch_and_add(&shared->control.probing_tasks, -1);
}

/*
 * The task is entered before the probe is: readers that see a probe and then no task in any know
 * that it has ended. The driver is not yet that of the device.
 */
static __always_inline void probe_begins(struct shared *shared, u64 device, u64 driver)
{
	struct driver_probe probe = {};
	u32 task = bpf_get_current_pid_tgid(), number, *outer = probe_of_task(task);

	probe.device = device;
	probe.outer = outer ? *outer : 0;
	read_device_names(device, probe.name, probe.bus, probe.driver, probe.module);
	read_driver_names(driver, probe.driver, probe.module);
	if (!probe.outer)
		__sync_fetch_and_add(&shared->control.probing_tasks, 1);
	/* Two at a time may get one number: the second is not added then. */
	__sync_fetch_and_add(&shared->control.probes_begun, 1);
	number = *(volatile u32 *)&shared->control.probes_begun;
	if (set_probe_of_task(task, number) || add_probe(number, &probe)) {
		leave_probe(shared, task, probe.outer);
		__sync_fetch_and_add(&shared->control.probes_lost, 1);
	}
}

/* Those within it have ended too, if their ends were missed. One that is not found was lost. */
static __always_inline void probe_ends(struct shared *shared, u64 device)
{
	u32 task = bpf_get_current_pid_tgid(), *current = probe_of_task(task);
	u32 number = current ? *current : 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < PROBE_DEPTH; i++) {
		struct driver_probe *probe = find_probe(number);

		if (!probe)
			return;
		number = probe->outer;
		if (probe->device == device) {
			leave_probe(shared, task, number);
			return;
		}
	}
}
#endif

#endif
