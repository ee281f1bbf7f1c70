#!/bin/bash
# One machine boots over the network, from power-on to a Debian container with systemd, on the terminal: firmware with iPXE, our boot server
# (DHCP, TFTP, HTTP), Debian's kernel, windlass as init, and the image over HTTP. Then the time of each stage and, on a terminal, a shell in
# the container.
#
#   test/bootdemo.sh
#
# Machine and boot server are on a wire in namespaces of their own: nothing of it can be reached from outside, and all ends with this program.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${WINDLASS_CACHE:-/var/cache/windlass-test}
kernel=$cache/kernel
server=10.77.0.1 node=10.77.0.10 mac=52:54:00:77:00:00
patience=240
begun=${begun:-${EPOCHREALTIME/[.,]/}}
width=160
if [ -t 1 ]; then width=$(tput cols 2>/dev/null || echo 80); fi

tenths() { echo $(((${EPOCHREALTIME/[.,]/} - begun) / 100000)); }
say() {
	local t
	t=$(tenths)
	printf '[%4d.%d s] %s\n' $((t / 10)) $((t % 10)) "$*"
}
die() { echo "boot-demo: $*" >&2; exit 1; }

# stamped MARK: shows each line with the seconds since power-on and who says it.
stamped() {
	local line t
	while IFS= read -r line; do
		t=$(((${EPOCHREALTIME/[.,]/} - begun) / 100000))
		[ -z "${line// /}" ] || printf "%6d.%d %s %.$((width - 11))s\n" $((t / 10)) $((t % 10)) "$1" "$line"
	done
}

outside() {
	[ "$(id -u)" = 0 ] || die "namespaces and bridges are root's: run it as root"
	say "a machine with nothing but a network device boots to a container of Debian; ctrl-C ends it, and nothing is left"
	say "looking for what is missing"
	test/install.sh test
	say "building bin/windlass"
	make --no-print-directory build
	say "a Debian with systemd and Debian's kernel, kept in $cache"
	test/rootfs.sh
	test/kernel.sh
	begun=$begun outer=$$ exec unshare --net --mount --pid --fork --kill-child --mount-proc "$PWD/test/bootdemo.sh" inside
}

wire() {
	ip link set lo up
	ip link add br0 type bridge forward_delay 0 stp_state 0
	ip address add $server/24 dev br0
	ip link set br0 up
	ip tuntap add tap0 mode tap
	ip link set tap0 master br0 up
}

site() {
	mkdir "$work/files" "$work/images"
	say "windlass initramfs build --preset minimal"
	bin/windlass initramfs build --preset minimal --kernel "$kernel/vmlinuz" --modules "$kernel" -o "$work/files/initramfs.img" | sed 's/^/           /'
	cp "$kernel/vmlinuz" "$work/files/"
	cp "$cache/debian.squashfs" "$work/images/"
	cat >"$work/images/debian.json" <<-JSON
		{ "name": "debian", "command": "/sbin/init", "systemd": true, "mount": { "kind": "overlay", "overlay": {
		  "lower": [ { "kind": "uri", "uri": { "uri": "http://$server:8080/images/debian.squashfs" } } ], "upper": { "size": 134217728 } } } }
	JSON
	cat >"$work/netboot.yaml" <<-YAML
		state_dir: state
		interfaces:
		  - { name: br0, mode: dhcp, empty_ra: true }
		subnets:
		  - { subnet: 10.77.0.0/24, lease_time: 10m }
		files: files
		images: images
		ipxe: { dir: /usr/lib/ipxe }
		groups:
		  compute:
		    kernel: vmlinuz
		    initramfs: [initramfs.img]
		    command_line: >-
		      console=ttyS0 loglevel=4 panic=-1 no_timer_check cryptomgr.notests mitigations=off
		      windlass.container={{image . "debian.json"}} windlass.log=warn windlass.api=http://0.0.0.0:8080 windlass.api.insecure
		nodes:
		  - { name: n0, mac: "$mac", ip: $node, group: compute }
	YAML
}

# Waits until one more emulated machine may run on this computer, and keeps the place, as test/vm does.
slot() {
	local n
	exec 8>>"$cache/guest.queue.lock"
	flock -n 8 || { say "waiting for others that emulate machines"; flock 8; }
	while :; do
		for n in 0 1; do
			exec 9>>"$cache/guest.$n.lock"
			if flock -n 9; then exec 8>&-; return; fi
		done
		sleep 0.2
	done
}

# wait_for SECONDS COMMAND…: until the command works, while boot server and machine are there.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		kill -0 "$boot" 2>/dev/null || { tail -n 20 "$work/netboot.log" >&2; die "the boot server ended"; }
		[ -z "$machine" ] || kill -0 "$machine" 2>/dev/null || die "the machine ended"
		[ $SECONDS -lt $end ] || { tail -n 20 "$work/netboot.log" >&2; die "not within the time: $*"; }
		sleep 0.2
	done
}

running() { curl -sf --max-time 5 "http://$server:8080/nodes?format=table" | grep -q ' running .* done '; }
ready() { curl -sf --max-time 5 "http://$node:8080/imageapi/v1/container?name=debian" | grep -q '"ready": *true'; }

# console shows what the machine does without what would clear the terminal.
console() { sed -u -E 's/\x1bc|\x08[\x08 ]*/\n/g; s/\x1b\[[0-9;?]*[A-Za-z]//g; s/\r//g; s/  *$//' | stamped '|'; }

# doings shows what the boot server does for the node, of what it logs.
doings() {
	tail -n +1 -F "$work/netboot.log" 2>/dev/null |
		sed -u -nE '/state=begun/d; /52:54:00|10\.77\.0\.10/ {
			s/^time="[^"]*" level=[a-z]+ msg=("([^"]*)"|([^ ]*)) /\2\3: /; s/(mac|node|wire|from|of)=("[^"]*"|[^ ]*) ?//g
			s/^a node reports: message=("([^"]*)"|([^ ]*)) stage=([a-z]+) state=([a-z]+)/the node reports: \4 \5: \2\3/; s/[: ]+$//; p }' | stamped '>'
}

# api shows a command to the machine's daemon, and what it says.
api() {
	printf '\n$ windlass --url http://%s:8080 %s\n' $node "$*"
	bin/windlass --url "http://$node:8080" "$@"
}

# stay lets a person look around.
stay() {
	local key
	cat <<-TEXT

		The machine is on. In another terminal of this computer:
		  nsenter -t ${outer:?} -n bin/windlass --url http://$node:8080 ps
		  nsenter -t ${outer:?} -n curl http://$server:8080/nodes
	TEXT
	while read -rp "s and Enter: a shell in the container; Enter: switch the machine off " key; do
		[ "$key" = s ] || break
		bin/windlass --url "http://$node:8080" exec -it debian bash || true
	done
}

inside() {
	work=/mnt boot='' machine=''
	mount -t tmpfs -o mode=755 tmpfs $work
	wire
	site
	slot
	say "windlass netboot serve"
	bin/windlass netboot serve -f "$work/netboot.yaml" --ready-file "$work/ready" >"$work/netboot.log" 2>&1 </dev/null &
	boot=$!
	wait_for 30 test -s "$work/ready"
	say "power on. The machine is emulated, so it is slow; the kernel says nothing until its first process does"
	printf '\n seconds | is the console of the machine, > is what the boot server does\n'
	begun=${EPOCHREALTIME/[.,]/}
	doings &
	qemu-system-x86_64 -M pc,graphics=off -accel tcg -cpu max -smp 1 -m 1024 -nodefaults -no-reboot -display none -serial stdio \
		-netdev tap,id=n0,ifname=tap0,script=no,downscript=no -device "virtio-net-pci,netdev=n0,mac=$mac,bootindex=0" </dev/null > >(console) &
	machine=$!
	wait_for $patience ready
	wait_for 30 running
	echo
	say "the container is up; asked from this side of the wire:"
	api ps
	api exec debian systemctl is-system-running
	api exec debian uname -a
	printf '\n$ windlass netboot nodes --stages\n'
	bin/windlass netboot nodes --server "http://$server:8080" --stages
	if [ -t 0 ]; then stay; fi
	echo
	say "switched off; the boot server and the wire end, too"
}

case ${1:-} in
'') outside ;;
inside) inside ;;
*) die "say nothing: there is one demo" ;;
esac
