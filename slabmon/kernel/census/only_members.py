# SPDX-License-Identifier: Apache-2.0
"""Functions, and tables of functions, that only one member of one struct can hold, or one of a
few: the offset tells these apart. A table is named as the kernel lists it, or after the function in
it. A struct or member that a kernel does not have is none that it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_IRQ_DESC = ("irq_desc.handle_irq",)
_KTHREAD = ("kthread.threadfn",)

ONLY_MEMBERS: Mapping[str, Sequence[str]] = {
    # Timers, and work to do later.
    "addrconf_dad_work": ("inet6_ifaddr.dad_work.work.func",),
    "addrconf_rs_timer": ("inet6_dev.rs_timer.function",),
    "blk_mq_run_work_fn": ("blk_mq_hw_ctx.run_work.work.func",),
    "blk_stat_timer_fn": ("blk_stat_callback.timer.function",),
    "cgroup1_release_agent": ("cgroup.release_agent_work.func",),
    "cgroup_file_notify_timer": ("cgroup_file.notify_timer.function",),
    "delayed_work_timer_fn": ("delayed_work.timer.function",),
    "dev_watchdog": ("net_device.watchdog_timer.function",),
    "disk_events_workfn": ("disk_events.dwork.work.func",),
    "flush_to_ldisc": ("tty_port.buf.work.func",),
    "idle_worker_timeout": ("worker_pool.idle_timer.function",),
    "igmp_gq_timer_expire": ("in_device.mr_gq_timer.function",),
    "igmp_timer_expire": ("ip_mc_list.timer.function",),
    "input_repeat_key": ("input_dev.timer.function",),
    "it_real_fn": ("signal_struct.real_timer.function",),
    "laptop_mode_timer_fn": ("backing_dev_info.laptop_mode_wb_timer.function",),
    "mld_ifc_work": ("inet6_dev.mc_ifc_work.work.func",),
    "mld_mca_work": ("ifmcaddr6.mca_work.work.func",),
    "neigh_timer_handler": ("neighbour.timer.function",),
    "perf_mux_hrtimer_handler": ("perf_cpu_pmu_context.hrtimer.function",),
    "pm_suspend_timer_fn": ("device.power.suspend_timer.function",),
    "pm_wakeup_timer_fn": ("wakeup_source.timer.function",),
    "process_srcu": ("srcu_usage.work.work.func",),
    "psi_avgs_work": ("psi_group.avgs_work.work.func",),
    "rht_deferred_worker": ("rhashtable.run_work.func",),
    "rtc_timer_do_work": ("rtc_device.irqwork.func",),
    "timerfd_tmrproc": ("timerfd_ctx.t.tmr.function",),
    "wb_workfn": ("bdi_writeback.dwork.work.func",),
    # Release functions of devices.
    "acpi_device_release": ("acpi_device.dev.release",),
    "device_create_release": ("device.release",),
    "memory_block_release": ("memory_block.dev.release",),
    "node_device_release": ("node.dev.release",),
    "pci_release_dev": ("pci_dev.dev.release",),
    "pci_release_host_bridge_dev": ("pci_host_bridge.dev.release",),
    "platform_device_release": ("platform_object.pdev.dev.release",),
    "pnp_release_device": ("pnp_dev.dev.release",),
    "serial_base_ctrl_release": ("serial_ctrl_device.dev.release",),
    "serial_base_port_release": ("serial_port_device.dev.release",),
    "serio_release_port": ("serio.dev.release",),
    # Types of kobjects, which hold little but a release function.
    "cdev_dynamic_release": ("cdev.kobj.ktype",),
    "class_dir_ktype": ("class_dir.kobj.ktype",),
    "class_dir_release": ("class_dir.kobj.ktype",),
    "driver_ktype": ("driver_private.kobj.ktype",),
    "driver_release": ("driver_private.kobj.ktype",),
    "dynamic_kobj_ktype": ("kobject.ktype",),
    "dynamic_kobj_release": ("kobject.ktype",),
    "iommu_group_ktype": ("iommu_group.kobj.ktype",),
    "iommu_group_release": ("iommu_group.kobj.ktype",),
    "irq_kobj_release": ("irq_desc.kobj.ktype",),
    "irq_kobj_type": ("irq_desc.kobj.ktype",),
    "kset_ktype": ("kset.kobj.ktype",),
    "kset_release": ("kset.kobj.ktype",),
    "ktype_cdev_dynamic": ("cdev.kobj.ktype",),
    "module_kobj_release": ("module_kobject.kobj.ktype",),
    "module_ktype": ("module_kobject.kobj.ktype",),
    # What a thread runs.
    "kthread_worker_fn": _KTHREAD,
    "rescuer_thread": _KTHREAD,
    "smpboot_thread_fn": _KTHREAD,
    "worker_thread": _KTHREAD,
    # How an interrupt is handled.
    "handle_bad_irq": _IRQ_DESC,
    "handle_edge_irq": _IRQ_DESC,
    "handle_fasteoi_irq": _IRQ_DESC,
    "handle_level_irq": _IRQ_DESC,
    "handle_percpu_devid_irq": _IRQ_DESC,
    "handle_simple_irq": _IRQ_DESC,
    # Others.
    "exact_lock": ("probe.lock",),
    "exact_match": ("probe.get",),
    "gen_pool_first_fit": ("gen_pool.algo",),
    "gen_pool_first_fit_order_align": ("gen_pool.algo",),
    "klist_children_get": ("device_private.klist_children.get",),
    "klist_class_dev_get": ("subsys_private.klist_devices.get",),
    "klist_devices_get": ("subsys_private.klist_devices.get",),
    "mempool_alloc_slab": ("mempool_s.alloc",),
    "mempool_kmalloc": ("mempool_s.alloc",),
    "netlink_sock_destruct": ("netlink_sock.sk.sk_destruct",),
    "packet_sock_destruct": ("packet_sock.sk.sk_destruct",),
    "sock_def_wakeup": ("sock.sk_state_change",),
    "vp_notify": ("vring_virtqueue.notify",),
}
