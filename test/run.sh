#!/bin/bash
# Runs everything that `make test` runs, section by section, and says at the end what failed. The last line is
# `N passed, N failed, N skipped`; the exit status is 1 when anything failed.
#
#   test/run.sh             all sections
#   test/run.sh lint unit   only these
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

all=(packages rootfs build lint generated unit ceph lazy contract crash guest lab boot)
sections=("$@")
[ $# -gt 0 ] || sections=("${all[@]}")

# One kind of build for all that needs no C: what `make build` compiles is what tests run, and a second clone need not compile it again.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath" CGO_ENABLED=0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
totals=$work/totals
: >"$totals"
failed=()

packages() { test/install.sh test; }
rootfs() { test/rootfs.sh; }
build() { make --no-print-directory build; }
lint() { CGO_ENABLED=1 test/lint.sh; }
generated() { go run ./swagger/generate -check; }

# Under the race detector, but for the packages of others that compress, decompress and hash: they make up most of what is computed, and would
# take ten times as long.
race() {
	local args=() p
	for p in github.com/klauspost/compress github.com/pierrec/lz4/v4 github.com/zeebo/blake3 github.com/ulikunitz/xz github.com/therootcompany/xz; do
		args+=("-gcflags=$p/...=-race=false")
	done
	CGO_ENABLED=1 gotest -race "${args[@]}" "$@"
}

# Concurrent code is everywhere, so all of it runs under the race detector. -p 3: of those on two cores one waits most of the time.
# What is in lazy is too slow with it, or has to be in time. Tests that make namespaces of mounts come after the others: as long as the mounts
# of another test are in there too, that finds them in use. So do the thousand clients of test/load, who want the machine for themselves.
unit() {
	local packages code=0 apart='/(initramfs/boot(/.*)?|internal/namespace|netboot|test/(lab(/.*)?|load))$'
	mapfile -t packages < <(go list ./... | grep -vE "/test/(lazyfs|corrupt)$|$apart")
	race -p 3 -timeout 8m "${packages[@]}" || code=1
	mapfile -t packages < <(go list ./... | grep -E "$apart")
	race -p 3 -timeout 8m "${packages[@]}" || code=1
	return $code
}

# A program of its own with libraries of its own, which the tags ask for; it publishes to a cluster that the tests start.
ceph() {
	local code=0
	make --no-print-directory ceph
	race -tags ceph,pacific -timeout 5m ./image/rbd || code=1
	CGO_ENABLED=1 gotest -tags ceph,pacific -timeout 15m ./cmd/windlass-ceph || code=1
	return $code
}

# Whole-system tests of chunkfs, one after the other: they measure how long readers wait.
lazy() { gotest -p 1 -timeout 10m ./test/evilorigin ./test/lazyfs ./test/corrupt; }

# A module of its own: it speaks to the daemon through the forerunner's generated client.
contract() { (cd test/contract && gotest -timeout 6m ./...); }

# The build tag arms the failpoints; without it there are none. Only what kills at them, and makes them fail, runs here: of drivers that is
# what the contract demands of each.
crash() {
	local code=0
	go build -tags failpoint -o /dev/null ./cmd/windlass
	beside gotest -tags failpoint -p 1 -timeout 20m -run AtEvery ./container/linux/... ./test/crash/...
	gotest -tags failpoint -p 1 -timeout 20m -run '^Test(Driver|Partitions|Conformance)' ./attach/... ./mount/... || code=1
	wait "$part" || code=1
	return $code
}

# Boots Debian's kernel in emulated machines, two at a time, which share the packages.
guest() {
	local code=0 chunkfs='erofs fusefs chunkserve chunkmount'
	go build -tags guest -o /dev/null ./cmd/windlass
	WINDLASS_GUEST_CASES=$chunkfs beside gotest -tags guest -timeout 15m ./test/guest
	WINDLASS_GUEST_CASES=-${chunkfs// / -} gotest -tags guest -timeout 15m ./test/guest || code=1
	wait "$part" || code=1
	return $code
}

# Real storage servers, and a guest whose kernel has the modules for what they serve. Two of them, since they mostly wait: one for the whole
# daemon, one for drivers. What both run is built before, once.
lab() {
	local code=0
	local -x WINDLASS_LAB_EVERYDAY=yes
	go build -tags lab,failpoint -o /dev/null ./cmd/windlass
	WINDLASS_LAB_PACKAGES=test/storage beside gotest -tags lab -timeout 30m -run '^TestLab$' ./test/lab
	WINDLASS_LAB_PACKAGES=-test/storage gotest -tags lab -timeout 30m ./test/lab || code=1
	wait "$part" || code=1
	return $code
}

# Emulated machines boot: into what `windlass initramfs build` makes, with our init, and over the network from power-on to a container.
boot() { gotest -tags guest -p 1 -timeout 40m ./initramfs ./test/initboot ./test/netboot; }

# beside starts a part of a section, which runs beside the rest of it and ends with it, in a process group of its own. What waits for it waits for $part.
beside() {
	set -m
	"$@" &
	part=$!
	set +m
	trap 'kill -- "-$part" 2>/dev/null || true' EXIT
}

# -count=1: what these tests build and run by themselves is nothing that the test cache knows of.
gotest() {
	go test -json -count=1 "$@" 2>&1 </dev/null | "$work/report" -skips "$root/test/skips.allowed" -totals "$totals"
}

section() {
	local name=$1 start=$SECONDS code=0
	printf '==> %s\n' "$name"
	# A subshell with its own -e: in a condition bash would not stop at the first error.
	set +e
	(set -e; "$name")
	code=$?
	set -e
	if [ $code -eq 0 ]; then
		printf '    ok, %ds\n' $((SECONDS - start))
		return
	fi
	printf '    FAILED, %ds\n' $((SECONDS - start))
	failed+=("$name")
}

# A function, so that the whole file is read before it begins: it may change while it runs.
main() {
	local s
	go build -o "$work/report" ./test/report
	for s in "${sections[@]}"; do
		[[ " ${all[*]} " == *" $s "* ]] || { echo "run: no section $s; there are: ${all[*]}" >&2; exit 2; }
	done
	for s in "${sections[@]}"; do
		section "$s"
		# Nothing can be run without what the first ones provide.
		if [ ${#failed[@]} -gt 0 ] && [[ $s =~ ^(packages|rootfs|build)$ ]]; then break; fi
	done

	local pass fail skip
	read -r pass fail skip < <(awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}' "$totals")
	echo
	if [ ${#failed[@]} -gt 0 ]; then
		echo "FAILED after $((SECONDS / 60)) min $((SECONDS % 60)) s: ${failed[*]}; what went wrong stands above, at FAIL and FAILED"
		[ "$fail" -gt 0 ] || fail=${#failed[@]}
	else
		echo "all is well after $((SECONDS / 60)) min $((SECONDS % 60)) s"
	fi
	echo "$pass passed, $fail failed, $skip skipped"
	[ ${#failed[@]} -eq 0 ]
}
main
