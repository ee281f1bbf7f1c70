#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the guest, in the initial file system. Its root is nothing that pivot_root can leave, so it makes another: an overlay of
# Debian's image (the first disk) and a tmpfs.
bb=/bin/busybox
step() { "$bb" "$@" || { echo "guest: failed: $*"; "$bb" poweroff -f; }; }

step mount -t proc proc /proc
step mount -t sysfs sysfs /sys
step mount -t devtmpfs dev /dev
while read -r module; do step insmod "$module"; done </modules/order
tries=0
while [ ! -b /dev/vdb ] && [ $tries -lt 100 ]; do "$bb" usleep 50000; tries=$((tries + 1)); done
step mount -t squashfs -o ro /dev/vda /lower
step mount -t tmpfs -o mode=755 tmpfs /upper
step mkdir /upper/data /upper/work
step mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /newroot
step cp -a /guest /newroot/guest
step cp -a /bin/busybox /newroot/bin/busybox
for d in proc sys dev; do step mount -o move /$d /newroot/$d; done
exec "$bb" switch_root /newroot /bin/sh /guest/run.sh
