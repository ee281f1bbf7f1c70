#!/bin/bash
# Measures chunkfs side by side with an ext4 directory, the kernel's squashfs and erofs, squashfuse, desync, nydus and stargz-snapshotter's
# file system, on this machine, and prints the tables that docs/PERFORMANCE.md keeps. Arguments go to the program in test/lazybench, such as
# -rounds 5, -only python or -skip stargz,desync.
#
# The tree is the tests' Debian with python3 and gcc. The others' programs are built from their registries once and kept beside it; one that
# cannot be built is named and left out.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
peers=$cache/peers
desync=v1.0.0
nydus=2.2.0

die() { echo "bench-chunkfs: $*" >&2; exit 1; }
say() { echo "bench-chunkfs: $*" >&2; }
[ "$(id -u)" = 0 ] || die "run it as root"
test/install.sh bench
make --no-print-directory build
test/rootfs.sh
mkdir -p "$peers"

# build NAME COMMAND…: builds a peer's program unless it is there; what it says is shown when it fails.
build() {
	local name=$1 log
	[ ! -x "$peers/$name" ] || return 0
	log=$(mktemp)
	say "building $name"
	"${@:2}" >"$log" 2>&1 </dev/null || { tail -n 5 "$log" >&2; say "$name could not be built: it is not measured"; }
	rm -f "$log"
}
build_desync() {
	local dir
	dir=$(mktemp -d)
	(cd "$dir" && go mod init peers && go mod edit -require "github.com/folbricht/desync@$desync" && GOFLAGS=-mod=mod go build -o "$peers/desync" github.com/folbricht/desync/cmd/desync)
	rm -rf "$dir"
}
build_stargz() { (cd test/lazybench/stargz && go build -o "$peers/stargzfs" .); }
build_nydus() {
	local dir
	dir=$(mktemp -d)
	cargo install --locked --root "$dir" --version "$nydus" nydus-rs
	mv "$dir"/bin/nydusd "$dir"/bin/nydus-image "$peers/"
	rm -rf "$dir"
}
build desync build_desync
build stargzfs build_stargz
if command -v cargo >/dev/null; then build nydusd build_nydus; else say "there is no cargo: nydus is not measured"; fi

tree=$cache/bench-rootfs
if [ "$(cat "$tree.complete" 2>/dev/null)" != "$(cat "$cache/debian-rootfs.complete")" ]; then
	say "a Debian with python3 and gcc, kept in $tree"
	rm -rf "$tree" "$tree.complete"
	cp -a "$cache/debian-rootfs" "$tree"
	cp /etc/apt/sources.list "$tree/etc/apt/" 2>/dev/null || true
	cp -a /etc/apt/sources.list.d /etc/apt/apt.conf.d "$tree/etc/apt/" 2>/dev/null || true
	# In namespaces of its own, so that nothing it mounts or starts stays. The resolver and the authorities are this machine's, while it runs.
	# shellcheck disable=SC2016 # the inner shell expands them
	unshare --mount --pid --fork --kill-child bash -euc '
		mount -t proc proc "$0/proc"
		mount --bind /dev "$0/dev"
		for f in /etc/resolv.conf /etc/ssl; do
			[ -e "$f" ] || continue
			if [ -d "$f" ]; then mkdir -p "$0$f"; else rm -f "$0$f" && touch "$0$f"; fi
			mount --bind "$f" "$0$f"
		done
		export DEBIAN_FRONTEND=noninteractive
		chroot "$0" apt-get -q update
		chroot "$0" apt-get -q -y --no-install-recommends install python3 gcc libc6-dev
		chroot "$0" apt-get clean
	' "$tree" >"$tree.log" 2>&1 || { tail -n 20 "$tree.log" >&2; die "python3 and gcc could not be installed into $tree"; }
	rm -rf "$tree"/var/lib/apt/lists/*
	setfacl -R -b "$tree" # nydus-image refuses a tree that has access control lists
	cp "$cache/debian-rootfs.complete" "$tree.complete"
fi

work=$(mktemp -d "$cache/bench.XXXXXX")
cleanup() {
	local code=$?
	trap - EXIT
	rm -rf --one-file-system "$work"
	exit $code
}
trap cleanup EXIT
go build -o "$work/lazybench" ./test/lazybench

echo "$(date -u +%F), $(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(go env GOVERSION), Linux $(uname -r), $(nproc) × $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)"
echo "tree: $(find "$tree" -xdev | wc -l) files, $(du -sx --apparent-size --block-size=1M "$tree" | cut -f1) MiB; desync $desync, nydus $nydus, stargz-snapshotter $(sed -n 's/.*stargz-snapshotter \(v.*\)/\1/p' test/lazybench/stargz/go.mod | head -n 1)"
# Mounts and the loopback device of its own: what is mounted goes with it, and the shaping touches nobody else.
# shellcheck disable=SC2016
unshare --mount --net --pid --fork --kill-child --mount-proc bash -euc 'ip link set lo up; exec "$@"' bash \
	"$work/lazybench" -tree "$tree" -work "$work" -peers "$peers" -bin bin "$@"
