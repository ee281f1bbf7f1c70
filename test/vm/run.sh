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

addresses='' shell=''
# shellcheck source=/dev/null
. /guest/config
if [ -n "$addresses" ]; then
	step ip link set eth0 up
	for a in $addresses; do
		# Without looking for others that have it, which takes IPv6 a second.
		case $a in
		*:*) step ip addr add "$a" dev eth0 nodad ;;
		*) step ip addr add "$a" dev eth0 ;;
		esac
	done
	if [ -n "$shell" ]; then busybox telnetd -b 0.0.0.0:23 -l /bin/bash; fi
fi

export WINDLASS_TEST_SHIM=/guest/windlass-shim WINDLASS_TEST_PROGRAMS=/guest WINDLASS_CHUNKFS_KILLS=10
read -r kernel </proc/sys/kernel/osrelease
echo "guest: up $kernel"
cd /tmp || exit
# Each begins when it is told so: what it needs outside may still be on its way.
while read -r name args; do
	echo "guest: ready $name"
	read -r _ </dev/ttyS1
	eval "/guest/$name.test $args"
	code=$?
	# The console shows errors only, until it matters.
	[ $code = 0 ] || dmesg | tail -n 60 >/dev/ttyS0
	echo "guest: end $name $code"
done </guest/cases
echo "guest: done"
read -r _ </dev/ttyS1
sync
busybox poweroff -f
