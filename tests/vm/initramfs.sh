#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# First process of a guest: stack read-only layers under a writable tmpfs and hand
# over to the script in the work directory. The root is the disk; `layers=a:b` on
# the command line names the 9p layers above it, topmost first.
bb=/bin/busybox

fail() {
    echo "initramfs: $1" >/dev/console
    $bb sleep 1
    echo o >/proc/sysrq-trigger
    $bb sleep 60
}

$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    $bb insmod "$module" || fail "cannot load $module"
done

layers=
for word in $($bb cat /proc/cmdline); do
    case $word in layers=*) layers=${word#layers=} ;; esac
done

p9=trans=virtio,version=9p2000.L,msize=524288
lower=
for layer in $(echo "$layers" | $bb tr : ' '); do
    $bb mkdir -p "/layers/$layer"
    # The host does not change a layer while a guest runs, so it may be cached.
    $bb mount -t 9p -o "ro,$p9,cache=loose" "$layer" "/layers/$layer" || fail "no layer $layer"
    lower=$lower${lower:+:}/layers/$layer
done

$bb mkdir -p /layers/root
$bb mount -t ext4 -o ro /dev/vda /layers/root || fail "no root disk"
lower=$lower${lower:+:}/layers/root

$bb mount -t tmpfs -o size=75% tmpfs /upper
$bb mkdir /upper/data /upper/work
$bb mount -t overlay -o "lowerdir=$lower,upperdir=/upper/data,workdir=/upper/work" root /new \
    || fail "no overlay"
$bb mkdir -p /new/vm
$bb mount -t 9p -o "rw,$p9,cache=none" work /new/vm || fail "no work directory"
$bb umount /dev /sys /proc
exec $bb switch_root /new /bin/sh /vm/init
