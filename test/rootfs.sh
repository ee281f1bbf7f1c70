#!/bin/bash
# Makes a real Debian root file system with systemd, once, and keeps it for the demo and the tests.
#
#   $WINDLASS_CACHE/debian-rootfs     the tree (read only, please: everybody shares it)
#   $WINDLASS_CACHE/debian.squashfs   the same as an image
#
# Both are made under another name and renamed, so what is there is whole. It is made anew when the recipe changes. Prints nothing when
# it has nothing to do.
set -euo pipefail

cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
packages=systemd,systemd-sysv,dbus,libpam-systemd,iproute2,procps
level=3

die() { echo "rootfs: $*" >&2; exit 1; }
say() { echo "    $*"; }

[ "$(id -u)" = 0 ] || die "only root can make a root file system"
# shellcheck source=/dev/null
. /etc/os-release
suite=${VERSION_CODENAME:-}
if [ "${ID:-}" != debian ] || [ -z "$suite" ]; then
	die "this is no Debian; the tree is made with debootstrap from the mirror that apt uses"
fi
recipe=$(printf '%s\n' "$suite" "$packages" "$level" "$(dpkg --print-architecture)" | sha256sum | cut -c1-12)

root=$cache/debian-rootfs
image=$cache/debian.squashfs
mkdir -p "$cache"
exec 9>"$cache/lock"
if ! flock -n 9; then
	say "waiting for another that makes it"
	flock 9
fi

# The mirror that this machine uses for Debian itself.
mirror() {
	# shellcheck disable=SC2016 # apt expands it
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $suite" 'Component: main' | head -n 1
}

# Runs a command and shows how long it takes and what it says now: on a terminal in one line, else every ten seconds. When it fails, its
# last words are shown.
quietly() {
	local log pid begun=$SECONDS told=0 now
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null 9>&- &
	pid=$!
	# shellcheck disable=SC2064
	trap "kill $pid 2>/dev/null || true; rm -f '$log'" EXIT
	while kill -0 "$pid" 2>/dev/null; do
		now="$((SECONDS - begun)) s  $(tail -n 1 "$log" | tr -cd '[:print:]' | cut -c1-60)"
		if [ -t 1 ]; then
			printf '\r\033[K    %s' "$now"
		elif [ $((SECONDS - begun)) -ge $((told + 10)) ]; then
			told=$((SECONDS - begun))
			say "$now"
		fi
		sleep 0.2
	done
	if [ -t 1 ]; then printf '\r\033[K'; fi
	if ! wait "$pid"; then
		tail -n 20 "$log" >&2
		die "$1 failed; its last words are above"
	fi
	rm -f "$log"
	trap - EXIT
}

if [ "$(cat "$root.complete" 2>/dev/null)" != "$recipe" ]; then
	from=$(mirror)
	if [ -z "$from" ]; then
		apt-get -q update >/dev/null
		from=$(mirror)
	fi
	[ -n "$from" ] || die "apt knows no mirror of Debian $suite main on this machine; see /etc/apt/sources.list"
	say "debootstrap of Debian $suite with systemd, about a minute"
	rm -rf "$root.complete" "$root" "$root.tmp" "$image"
	quietly debootstrap --variant=minbase --include="$packages" "$suite" "$root.tmp" "$from"
	rm -rf "$root.tmp"/var/cache/apt/archives/*.deb "$root.tmp"/var/lib/apt/lists/*
	# Each container is a machine of its own: systemd makes the id when it starts, and the node's name stays the node's.
	: >"$root.tmp/etc/machine-id"
	rm -f "$root.tmp/etc/hostname"
	mv "$root.tmp" "$root"
	echo "$recipe" >"$root.complete"
fi

if [ ! -e "$image" ]; then
	say "mksquashfs of $(du -sh "$root" | cut -f1)"
	rm -f "$image.tmp"
	quietly mksquashfs "$root" "$image.tmp" -comp zstd -Xcompression-level "$level" -noappend -no-progress
	mv "$image.tmp" "$image"
fi
