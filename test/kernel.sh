#!/bin/bash
# Gets Debian's own kernel with its modules, once, and keeps it for the tests that boot one (test/guest).
#
#   $WINDLASS_CACHE/kernel/vmlinuz, vmlinux     packed and unpacked
#   $WINDLASS_CACHE/kernel/lib/modules/VERSION    with modules.dep
#
# It is made under another name and renamed, so what is there is whole. It is made anew when the recipe changes, not when Debian has a newer
# one: remove the directory for that. Nothing is installed. Prints nothing when it has nothing to do.
set -euo pipefail

cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
package=linux-image-amd64
# Large, and of no use to a machine without a screen, sound or radio.
unwanted=(sound drivers/gpu drivers/media drivers/net/wireless drivers/staging drivers/iio drivers/input)

die() { echo "kernel: $*" >&2; exit 1; }
say() { echo "    $*"; }

# shellcheck source=/dev/null
. /etc/os-release
[ "${ID:-}" = debian ] || die "this is no Debian; the kernel is fetched with apt-get"
[ "$(dpkg --print-architecture)" = amd64 ] || die "the guest is an amd64; this machine is another"
recipe=$(printf '%s\n' "$VERSION_CODENAME" "$package" "${unwanted[@]}" | sha256sum | cut -c1-12)

kernel=$cache/kernel
mkdir -p "$cache"
exec 9>"$cache/kernel.lock"
if ! flock -n 9; then
	say "waiting for another that fetches the kernel"
	flock 9
fi

# A kernel that need not unpack itself comes up three seconds earlier in an emulated machine. What is packed begins with the mark of xz.
unpack() {
	local at
	at=$(LC_ALL=C grep -obUaP -m 1 '\xfd7zXZ\x00' "$1" | head -n 1 | cut -d: -f1)
	[ -n "$at" ] || die "$1 is not packed by xz"
	# After it stands more, of which xz complains.
	tail -c "+$((at + 1))" "$1" | xz -dc --single-stream >"$2.tmp" 2>/dev/null || true
	[ "$(head -c 4 "$2.tmp" | tail -c 3)" = ELF ] || die "$1 could not be unpacked"
	mv "$2.tmp" "$2"
}

if [ "$(cat "$kernel/recipe" 2>/dev/null)" = "$recipe" ]; then
	[ -e "$kernel/vmlinux" ] || unpack "$kernel/vmlinuz" "$kernel/vmlinux"
	exit 0
fi

tmp=$kernel.tmp
rm -rf "$tmp"
mkdir -p "$tmp/tree"
trap 'rm -rf "$tmp"' EXIT

# The package is empty and depends on that of the newest version.
newest() { apt-cache depends --important "$package" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1; }
image=$(newest)
if [ -z "$image" ]; then
	apt-get -q update >/dev/null
	image=$(newest)
fi
[ -n "$image" ] || die "apt knows no package $package; see /etc/apt/sources.list"

say "fetching $image"
# What apt downloads it must be able to write as a user of its own, or say so on every run.
(cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$image" >log 2>&1 9>&-) || { cat "$tmp/log" >&2; die "apt-get could not download $image"; }
dpkg -x "$tmp"/*.deb "$tmp/tree"
version=${image#linux-image-}
for d in "${unwanted[@]}"; do rm -rf "$tmp/tree/lib/modules/$version/kernel/$d"; done
busybox depmod -b "$tmp/tree" "$version" || die "no list of modules could be made for $version"

mkdir "$tmp/kernel"
mv "$tmp/tree/boot/vmlinuz-$version" "$tmp/kernel/vmlinuz"
unpack "$tmp/kernel/vmlinuz" "$tmp/kernel/vmlinux"
mv "$tmp/tree/lib" "$tmp/kernel/lib"
echo "$recipe" >"$tmp/kernel/recipe"
rm -rf "$kernel"
mv "$tmp/kernel" "$kernel"
