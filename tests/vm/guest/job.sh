#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run the command, leave its output, exit code and the kernel log in /vm, power off.
# A missing /vm/exit means to the host that the guest died.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C.UTF-8
. /vm/settings
cd /opt/slabmon || exit 1

# There is no udev: load the drivers of the present devices, then of those
# behind them (a USB controller's keyboard appears only with its driver).
if [ -n "$LOAD_DRIVERS" ]; then
    for round in 1 2 3; do
        find /sys/devices -name modalias -exec cat {} + | sort -u | xargs -r modprobe -abq
        sleep 1
    done
fi

if [ "$MODE" = shell ]; then
    tty=/dev/$(sed 's/.* //' /sys/class/tty/console/active)
    setsid -c bash -i <"$tty" >"$tty" 2>&1
else
    bash /vm/command >/vm/output 2>&1 </dev/null
    status=$?
    dmesg >/vm/dmesg
    echo $status >/vm/exit
fi
sync
# Powering off takes the 9p mounts away before it is done. From here on nothing
# can be executed and process 1 must not end (a panic): wait in a builtin.
mkfifo /run/never
echo o >/proc/sysrq-trigger
read -r _ </run/never
