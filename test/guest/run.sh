#!/bin/sh
# Makes the guest a node and runs the tests one after the other, in Debian's root file system. What the kernel says goes to the first serial line,
# what is said here and by the tests to the second.
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo
step() { "$@" || { echo "guest: failed: $*"; busybox poweroff -f; }; }

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
step mkdir -p /dev/pts /dev/shm /dev/mqueue
step mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
step mount -t tmpfs tmpfs /dev/shm
step mount -t mqueue mqueue /dev/mqueue
step mount -t tmpfs -o mode=755 tmpfs /run
step mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
step ip link set lo up
step hostname guest
cache=/var/cache/windlass-test
step mkdir -p $cache/debian-rootfs
step mount -t squashfs -o ro /dev/vda $cache/debian-rootfs
touch $cache/debian-rootfs.complete

export WINDLASS_TEST_SHIM=/guest/windlass-shim WINDLASS_TEST_PROGRAMS=/guest WINDLASS_CHUNKFS_KILLS=10
read -r kernel </proc/sys/kernel/osrelease
echo "guest: up $kernel"
cd /tmp || exit
while read -r name args; do
	echo "guest: run $name"
	eval "/guest/$name.test $args"
	echo "guest: end $name $?"
done </guest/cases
echo "guest: done"
sync
busybox poweroff -f
