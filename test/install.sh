#!/bin/bash
# Installs the Debian packages that a purpose needs and that are missing; says nothing and does nothing when all are there.
#
#   test/install.sh demo|test|bench|bench-boot
set -euo pipefail

# What each is for: docs/DEPENDENCIES.md. A `test` is a `demo` and more, a `bench` and a `bench-boot` the same.
demo=(debootstrap squashfs-tools curl ca-certificates)
test=("${demo[@]}" gcc libc6-dev erofs-utils e2fsprogs xfsprogs btrfs-progs dosfstools fdisk mount busybox-static xz-utils zstd iproute2 procps shellcheck chromium qemu-system-x86
	ceph-mon ceph-osd ceph-common librados-dev librbd-dev tgt nfs-ganesha nfs-ganesha-vfs rpcbind dnsmasq-base ipxe ipxe-qemu ovmf pxelinux syslinux-common)
bench=("${demo[@]}" crun systemd-container busybox-static erofs-utils squashfuse fuse3 acl iproute2 dnsmasq-base nginx-light)
bench_boot=("${demo[@]}" busybox-static xz-utils qemu-system-x86)

die() { echo "install: $*" >&2; exit 1; }

# The version of Go that go.mod asks for; the go command itself says so when it is too old, but not when it is not there.
command -v go >/dev/null || die "Go $(sed -n 's/^go //p' "$(dirname "$0")/../go.mod") or newer is needed and there is no go command; see https://go.dev/doc/install"

case ${1:-} in
demo) want=("${demo[@]}") ;;
test) want=("${test[@]}") ;;
bench) want=("${bench[@]}") ;;
bench-boot) want=("${bench_boot[@]}") ;;
*) die "say what for: demo, test, bench or bench-boot" ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	die "this is no Debian: install by hand what the Debian packages ${want[*]} hold"
fi

installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${want[@]}" 2>/dev/null | sed -n 's/^ii //p') || true
missing=()
for p in "${want[@]}"; do
	grep -qxF "$p" <<<"$installed" || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || die "these Debian packages are missing: ${missing[*]}; install them, or run this as root"
echo "installing ${missing[*]}"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
# Tests start servers of their own; those of the machine must not begin to listen because of them, neither now nor when it boots.
if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; fi
trap 'rm -f "$log" $policy' EXIT
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -y -o DPkg::Lock::Timeout=300)
if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
	tail -n 30 "$log" >&2
	die "apt-get could not install ${missing[*]}; its last words are above"
fi
if command -v systemctl >/dev/null; then
	for p in "${missing[@]}"; do
		case $p in
		tgt | nfs-ganesha) systemctl -q disable "$p" >/dev/null 2>&1 || true ;;
		nginx-light) systemctl -q disable nginx >/dev/null 2>&1 || true ;;
		rpcbind) systemctl -q disable rpcbind.socket rpcbind.service >/dev/null 2>&1 || true ;;
		ceph-mon | ceph-osd) systemctl -q disable "$p.target" >/dev/null 2>&1 || true ;;
		esac
	done
fi
