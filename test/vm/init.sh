#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the guest, in the initial file system. Its root is nothing that pivot_root can leave, so it goes to another: the second
# disk, an ext4 with Debian, as a node's disk is. On it an overlay can lie, and before Linux 6.3 no tmpfs can be shown in a user namespace.
bb=/bin/busybox
step() { "$bb" "$@" || { echo "guest: failed: $*"; "$bb" ls -l / /newroot; "$bb" poweroff -f; }; }

step mount -t proc proc /proc
step mount -t sysfs sysfs /sys
step mount -t devtmpfs dev /dev
while read -r module; do step insmod "$module"; done </modules/order
tries=0
while [ ! -b /dev/vdb ] && [ $tries -lt 100 ]; do "$bb" usleep 50000; tries=$((tries + 1)); done
step mount -t ext4 /dev/vdb /newroot
step cp -a /guest /newroot/guest
step cp -a /root/. /newroot
step cp -a /bin/busybox /newroot/bin/busybox
for d in proc sys dev; do step mount -o move /$d /newroot/$d; done
exec "$bb" switch_root /newroot /bin/sh /guest/run.sh
