#!/bin/bash
# Measures the boot of a stateless node with windlass side by side with what others boot theirs with: an initramfs of dracut that fetches the
# whole image (root=live:http://…), and Debian's own with live-boot (fetch=http://…). Same kernel, same image, same emulated machine. Prints
# the tables that docs/PERFORMANCE.md keeps. Arguments go to the program in test/bench-boot, such as -rounds 1, -only 'hpc|dracut' or -least.
#
# Nothing of it is installed on this machine: the others' builders and the image are two trees of Debian, made once and kept.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
kernel=$cache/kernel
builders=$cache/bench-boot-builders
node=$cache/bench-boot-node
image=$cache/bench-boot.squashfs

die() { echo "bench-boot: $*" >&2; exit 1; }
say() { echo "bench-boot: $*" >&2; }
[ "$(id -u)" = 0 ] || die "run it as root"
test/install.sh bench-boot
make --no-print-directory build
test/rootfs.sh
test/kernel.sh
version=$(basename "$kernel"/lib/modules/*)

# grow TREE PACKAGE…: a copy of the tests' Debian with more packages.
grow() {
	local tree=$1
	rm -rf --one-file-system "$tree" "$tree.complete"
	cp -a "$cache/debian-rootfs" "$tree"
	cp /etc/apt/sources.list "$tree/etc/apt/" 2>/dev/null || true
	cp -a /etc/apt/sources.list.d /etc/apt/apt.conf.d "$tree/etc/apt/" 2>/dev/null || true
	# In namespaces of its own, so that nothing it mounts or starts stays. The resolver and the authorities are this machine's, while it runs.
	# shellcheck disable=SC2016 # the inner shell expands them
	unshare --mount --pid --fork --kill-child bash -euc '
		tree=$1
		mount -t proc proc "$tree/proc"
		mount --bind /dev "$tree/dev"
		for f in /etc/resolv.conf /etc/ssl; do
			[ -e "$f" ] || continue
			if [ -d "$f" ]; then mkdir -p "$tree$f"; else rm -f "$tree$f" && touch "$tree$f"; fi
			mount --bind "$f" "$tree$f"
		done
		printf "#!/bin/sh\nexit 101\n" >"$tree/usr/sbin/policy-rc.d"
		chmod 755 "$tree/usr/sbin/policy-rc.d"
		export DEBIAN_FRONTEND=noninteractive
		chroot "$tree" apt-get -q update
		chroot "$tree" apt-get -q -y --no-install-recommends install "${@:2}"
		chroot "$tree" apt-get clean
		rm "$tree/usr/sbin/policy-rc.d"
	' bash "$@" >"$tree.log" 2>&1 </dev/null || { tail -n 20 "$tree.log" >&2; die "these could not be installed into $tree: ${*:2}"; }
	rm -rf "$tree"/var/lib/apt/lists/* "$tree"/etc/apt/sources.list.d "$tree"/etc/resolv.conf
}

# What the trees are made of: they are made anew when it changes.
node_packages=(udev)
# dracut 059 takes live:http from dracut-live, with curl, and can have its network from NetworkManager or dhclient (network-legacy).
builder_packages=(kmod curl pigz zstd busybox dracut-core dracut-network dracut-live network-manager initramfs-tools live-boot live-boot-initramfs-tools)
made=$(cat test/bench-boot/ready "$cache/debian-rootfs.complete" "$kernel/recipe" - <<<"${node_packages[*]} ${builder_packages[*]} $version" | sha256sum | cut -c1-12)
complete() { [ "$(cat "$1.complete" 2>/dev/null)" = "$made" ]; }

# The system of the node, as a site has it: the tests' Debian with udev, and a unit that tells the web server when all others have come up.
if ! complete "$node" || [ ! -e "$image" ]; then
	say "a Debian for the node, kept in $image"
	grow "$node" "${node_packages[@]}"
	cat >"$node/etc/systemd/system/bench-ready.service" <<-'UNIT'
		[Unit]
		Description=Tell the web server that the node is ready
		After=multi-user.target
		[Service]
		Type=oneshot
		ExecStart=/usr/local/sbin/bench-ready
	UNIT
	mkdir -p "$node/etc/systemd/system/graphical.target.wants"
	ln -sf ../bench-ready.service "$node/etc/systemd/system/graphical.target.wants/"
	install -m 755 test/bench-boot/ready "$node/usr/local/sbin/bench-ready"
	rm -f "$image"
	mksquashfs "$node" "$image.tmp" -comp zstd -Xcompression-level 3 -noappend -no-progress -quiet
	mv "$image.tmp" "$image"
	echo "$made" >"$node.complete"
fi

if ! complete "$builders"; then
	say "a Debian with dracut and initramfs-tools, kept in $builders"
	grow "$builders" "${builder_packages[@]}"
	mkdir -p "$builders/lib/modules" "$builders/boot"
	cp -a "$kernel/lib/modules/$version" "$builders/lib/modules/"
	# Both look there for what the kernel can unpack.
	(cd "$builders/boot" && apt-get -q -o APT::Sandbox::User=root download "linux-image-$version" >/dev/null &&
		dpkg-deb --fsys-tarfile linux-image-*.deb | tar -xf - "./boot/config-$version" --strip-components=2 && rm linux-image-*.deb)
	chroot "$builders" depmod "$version"
	echo "$made" >"$builders.complete"
fi

work=$(mktemp -d "$cache/bench.XXXXXX")
cleanup() {
	local code=$?
	trap - EXIT
	rm -rf --one-file-system "$work"
	exit $code
}
trap cleanup EXIT
go build -o "$work/bench-boot" ./test/bench-boot
install -D -m 755 test/bench-boot/overlay-hook.sh "$builders/out/overlay-hook.sh"

has() { chroot "$builders" dpkg-query -W -f "\${Version}" "$1"; }
echo "$(date -u +%F), $(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(go env GOVERSION), Linux $(uname -r), $(nproc) × $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)"
echo "load $(cut -d' ' -f1 /proc/loadavg), $(qemu-system-x86_64 --version | head -n 1); on the node Linux $version; dracut $(has dracut-core), live-boot $(has live-boot)"
# The builders want /proc, /sys and /dev in their tree; what is mounted there goes with the namespace.
# shellcheck disable=SC2016
unshare --mount --pid --fork --kill-child --mount-proc bash -euc '
	mount -t proc proc "$0/proc"; mount --rbind /sys "$0/sys"; mount --rbind /dev "$0/dev"; mount -t tmpfs tmpfs "$0/run"
	exec "$@"' "$builders" "$work/bench-boot" -builders "$builders" -kernel "$kernel" -image "$image" -tree "$node" -work "$work" -bin bin "$@"
