#!/bin/bash
# Measures windlass side by side with crun, systemd-nspawn and the forerunner's server, on this machine, and prints the table that
# docs/PERFORMANCE.md keeps. Arguments go to the program in test/bench, such as -rounds 101 or -only exec.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
forerunner=github.com/kraken-hpc/imageapi/cmd/imageapi-server@v0.2.0

die() { echo "bench: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "run it as root"
test/install.sh bench
make --no-print-directory build
test/rootfs.sh

# All keep their state on a tmpfs, as on a node, whatever /run is here.
run=$(mktemp -d /run/windlass-bench.XXXXXX)
mount -t tmpfs -o mode=700 windlass-bench "$run"
work=$(mktemp -d "$cache/bench.XXXXXX")
daemon='' server=''

# What an interrupted run left: everything that the daemon has, containers first.
takedown() {
	local kind id
	crun --root "$run/crun" delete -f bench-exec >/dev/null 2>&1 || true
	for kind in container mount attach; do
		for id in $(curl -s --unix-socket "$run/windlass/api.sock" "http://windlass/imageapi/v1/$kind" | grep -oE '"id":[0-9]+' | cut -d: -f2); do
			curl -s -o /dev/null --unix-socket "$run/windlass/api.sock" -X DELETE "http://windlass/imageapi/v1/$kind?id=$id&force=true" || true
		done
	done
}

cleanup() {
	local code=$?
	trap - EXIT
	trap '' INT TERM
	if [ -n "$daemon" ]; then
		takedown
		kill -TERM "$daemon" 2>/dev/null || true
	fi
	# unshare does not take TERM while its child runs; the child dies with it.
	while [ -n "$server" ] && kill -KILL "$server" 2>/dev/null; do sleep 0.05; done
	wait
	# The forerunner leaves loop devices behind, and everybody's search of them would take longer from run to run.
	losetup --noheadings --output NAME --associated "$work/debian.squashfs" | xargs --no-run-if-empty --max-args=1 losetup --detach
	if [ $code -ne 0 ] && [ $code -ne 130 ]; then tail -n 20 "$work/windlass.log" >&2 || true; fi
	umount "$run" || umount -l "$run"
	rm -rf --one-file-system "$run" "$work"
	exit $code
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A copy of the tree and the image of our own: the runtimes leave mountpoints and machine ids in it.
cp -a "$cache/debian-rootfs" "$work/rootfs"
# Not compressed: it is not the kernel's unpacking of the first pages of a program that is to be measured.
mksquashfs "$work/rootfs" "$work/debian.squashfs" -noI -noD -noF -noX -noappend -no-progress -quiet
go build -o "$work/bench" ./test/bench

setsid bin/windlass serve --run-dir "$run/windlass" --socket-path "$run/windlass/api.sock" --shim "$PWD/bin/windlass-shim" --log-level warn \
	>"$work/windlass.log" 2>&1 </dev/null &
daemon=$!

# The forerunner keeps its things in /run/imageapi and moves roots about: it gets mounts and processes of its own.
address=()
if (mkdir "$work/forerunner" && cd "$work/forerunner" && go mod init forerunner && go get "$forerunner" &&
	CGO_ENABLED=0 go build -o server "${forerunner%@*}") >"$work/build.log" 2>&1; then
	mkdir -p /run/imageapi
	port=$((20000 + RANDOM % 10000))
	# shellcheck disable=SC2016 # the inner shell expands them
	setsid unshare --mount --pid --fork --kill-child --mount-proc sh -c \
		'mount -t tmpfs tmpfs /run/imageapi && exec "$0" --scheme http --host 127.0.0.1 --port "$1"' \
		"$work/forerunner/server" "$port" >"$work/forerunner.log" 2>&1 </dev/null &
	server=$!
	disown "$server" # or the shell reports its death
	address=(-forerunner "127.0.0.1:$port")
else
	echo "bench: the forerunner's server could not be built; what is compared with it is not measured:" >&2
	tail -n 5 "$work/build.log" >&2
fi

up() { curl -sf -o /dev/null "$@"; }
for _ in {1..200}; do
	if up --unix-socket "$run/windlass/api.sock" http://windlass/healthz &&
		{ [ ${#address[@]} -eq 0 ] || up "http://${address[1]}/imageapi/v1/container"; }; then break; fi
	kill -0 "$daemon" 2>/dev/null || die "the daemon ended"
	sleep 0.05
done

echo "$(date -u +%F), $(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(go env GOVERSION), Linux $(uname -r), $(nproc) × $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)"
echo "$(crun --version | head -n 1), $(systemd-nspawn --version | head -n 1)${address[0]:+, forerunner ${forerunner#*@}}"
echo
# crun refuses a host that has both versions of cgroups: in here there is the second alone. The daemon runs outside of it.
# shellcheck disable=SC2016
unshare --mount bash -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' bash \
	"$work/bench" -socket "$run/windlass/api.sock" "${address[@]}" -image "$work/debian.squashfs" -rootfs "$work/rootfs" \
	-work "$work" -crun-state "$run/crun" "$@"
