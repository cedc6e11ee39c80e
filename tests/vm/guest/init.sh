#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Second stage of a guest, in its real root: mounts, then what /vm/settings asks for.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8
. /vm/settings

if [ "$MODE" = systemd ]; then
    # systemd mounts everything itself. Its default target would start gettys and
    # timers nobody waits for; the job is the boot's goal instead.
    systemd-id128 new >/etc/machine-id
    for unit in getty.target timers.target systemd-hwdb-update.service \
        systemd-udevd.service systemd-udev-trigger.service; do
        ln -sf /dev/null "/etc/systemd/system/$unit"
    done
    cat >/etc/systemd/system/vm-job.service <<END
[Unit]
Wants=multi-user.target
After=multi-user.target

[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh /vm/job
END
    exec /sbin/init --unit=vm-job.service
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
modprobe -q configfs && mount -t configfs configfs /sys/kernel/config
ip link set lo up
hostname guest
exec /bin/sh /vm/job
