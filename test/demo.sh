#!/bin/bash
# The main job, on the real thing: a Debian root file system with systemd becomes an image; one POST raises the chain up to the container;
# it says itself when it is ready; then all is taken down, and the node is compared with how it was.
#
#   test/demo.sh         the image is a squashfs on this machine: container → overlay → squashfs → loop device
#   test/demo.sh lazy    the image is a chunkfs that a web server has, and nothing of it is here: container → overlay → chunkfs
#
# It uses a run directory and a chunk cache of its own, so a windlass that runs on this machine is not disturbed.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-squashfs}
cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
begun=${EPOCHREALTIME/[.,]/}

say() {
	local us=$((${EPOCHREALTIME/[.,]/} - begun))
	printf '[%4d.%d s] %s\n' $((us / 1000000)) $((us / 100000 % 10)) "$*"
}
die() { echo "demo: $*" >&2; exit 1; }
indented() { sed 's/^/           /'; }
[[ $kind == squashfs || $kind == lazy ]] || die "say lazy, or nothing: there is no demo of $kind"

[ "$(id -u)" = 0 ] || die "loop devices, mounts and namespaces are root's: run it as root"

say "looking for what is missing"
test/install.sh demo
say "building bin/windlass"
make --no-print-directory build
say "a Debian with systemd, kept in $cache"
test/rootfs.sh

run=$(mktemp -d /run/windlass-demo.XXXXXX)
work=$(mktemp -d "$cache/demo.XXXXXX")
sock=$run/api.sock
log=$work/daemon.log
daemon='' web=''
windlass() { bin/windlass --socket "$sock" "$@"; }
nodestate() { "$work/nodestate" -run-dir "$run" -under "$work" "$@"; }

cleanup() {
	local code=$?
	trap - EXIT
	trap '' INT TERM
	if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
		[ $code -eq 0 ] || echo "demo: taking down what was raised" >&2
		windlass stop --time 3s demo >/dev/null 2>&1 || true
		windlass rm --force demo >/dev/null 2>&1 || true
		kill -TERM "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	if [ -n "$web" ] && kill -TERM "$web" 2>/dev/null; then wait "$web" 2>/dev/null || true; fi
	if [ $code -ne 0 ] && [ $code -ne 130 ] && [ -s "$log" ]; then
		echo "demo: the daemon's last words:" >&2
		tail -n 20 "$log" | indented >&2
	fi
	if left=$(nodestate 2>/dev/null | grep -v '^file ') && [ -n "$left" ]; then
		printf 'demo: this is still there, in %s and %s:\n%s\n' "$run" "$work" "$left" >&2
		exit 1
	fi
	rm -rf --one-file-system "$run" "$work"
	exit $code
}
trap cleanup EXIT
trap 'exit 130' INT TERM

go build -o "$work/nodestate" ./test/nodestate/print
# Sets `image`, the part of the definition that is the image's mount, and `classes`, what the node must have while it is raised.
squashfs_image() {
	# A name of its own for the image, so that what is left on it can be told from what others do with the cached one.
	ln "$cache/debian.squashfs" "$work/debian.squashfs"
	image='{ "kind": "attach", "attach": { "fs_type": "squashfs", "attach": {
            "kind": "loopback", "loopback": { "path": "'$work'/debian.squashfs", "base": "root" } } } }'
	chain="container → overlay → squashfs → loop device"
	classes=(mount 'loop device' cgroup process socket file)
}

lazy_image() {
	say "windlass image build: the Debian tree becomes chunks, metadata and an index"
	bin/windlass image build "$cache/debian-rootfs" -o "$work/store" --tag debian | indented
	bin/windlass image serve "$work/store" --listen 127.0.0.1:0 --ready-file "$work/url" >"$work/web.log" 2>&1 </dev/null &
	web=$!
	for _ in {1..100}; do
		kill -0 "$web" 2>/dev/null || { cat "$work/web.log" >&2; die "the web server ended"; }
		[ -s "$work/url" ] && break
		sleep 0.05
	done
	url=$(<"$work/url")
	say "windlass image serve: the store is at $url"
	image='{ "kind": "chunkfs", "chunkfs": { "image": "debian", "origins": [ { "url": "'$url'" } ] } }'
	chain="container → overlay → chunkfs"
	classes=(mount cgroup process socket file)
}
"${kind}_image"
nodestate -save "$work/before.json"

say "starting the daemon: windlass serve --run-dir $run --socket-path $sock"
setsid bin/windlass serve --run-dir "$run" --socket-path "$sock" --shim "$PWD/bin/windlass-shim" --chunkfs-cache "$work/chunks" >"$log" 2>&1 </dev/null &
daemon=$!
for _ in {1..200}; do
	kill -0 "$daemon" 2>/dev/null || die "the daemon ended"
	curl -sf --unix-socket "$sock" http://windlass/healthz >/dev/null && break
	sleep 0.05
done
curl -sf --unix-socket "$sock" http://windlass/healthz >/dev/null || die "the daemon does not answer on $sock"

cat >"$work/demo.json" <<JSON
{
  "name": "demo",
  "command": "/sbin/init",
  "systemd": true,
  "state": "running",
  "mount": {
    "kind": "overlay",
    "overlay": {
      "lower": [
        $image
      ]
    }
  }
}
JSON
say "POST /imageapi/v1/container: one definition, $chain"
indented <"$work/demo.json"
status=$(curl -sS --unix-socket "$sock" -o "$work/answer.json" -w '%{http_code} in %{time_total} s' \
	-H 'Content-Type: application/json' -d @"$work/demo.json" http://windlass/imageapi/v1/container)
if [[ $status != 201* ]]; then
	indented <"$work/answer.json" >&2
	die "the answer was $status"
fi
say "the answer: $status"

say "waiting until its systemd says that it is ready"
windlass wait --condition ready --timeout 120s demo >/dev/null
say "ready; the chain:"
windlass tree | indented
nodestate >"$work/now"
count() { grep -c "^$1 " "$work/now" || true; }
for class in "${classes[@]}"; do
	# What is not found while it is there would not be missed afterwards either.
	[ "$(count "$class")" -gt 0 ] || die "the look at the node finds no $class, but there must be one"
done
say "the node has $(count mount) mounts, $(count 'loop device') loop devices, $(count cgroup) cgroups, $(count process) processes for it"

say "windlass exec demo systemctl is-system-running"
state=$(windlass exec demo systemctl is-system-running) || true
indented <<<"$state"
if [ "$state" != running ]; then
	windlass exec demo systemctl --no-pager --failed >&2 || true
	die "systemd in the container says $state, not running"
fi

if [ "$kind" = lazy ]; then
	say "of the image so much has come, with a cache that was empty:"
	windlass image stat | indented
fi

say "windlass stop demo"
windlass stop demo >/dev/null
windlass wait --condition ended --timeout 120s demo >/dev/null
windlass ps | indented
say "windlass rm demo"
windlass rm demo >/dev/null
say "stopping the daemon"
kill -TERM "$daemon"
wait "$daemon" || die "the daemon ended with status $?"
daemon=

say "is a mount, loop device, cgroup, process, socket or file left?"
if ! nodestate -wait 10s -compare "$work/before.json" >"$work/left"; then
	indented <"$work/left" >&2
	die "the node is not as it was before"
fi
say "nothing is left: the node is as it was before. Done."
echo
echo "To do the same by hand: README.md, \"Five minutes\"; the image is $cache/debian.squashfs, the tree $cache/debian-rootfs."
