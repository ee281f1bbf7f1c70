#!/bin/bash
# Measures the boot server side by side with dnsmasq and nginx, in a network namespace, and prints the table that docs/PERFORMANCE.md
# keeps. Arguments go to the program in test/bench-netboot, such as -rounds 21 or -nodes 4000.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WINDLASS_CACHE:-/var/cache/windlass-test}

die() { echo "bench-netboot: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "run it as root"
test/install.sh bench
mkdir -p "$cache"
work=$(mktemp -d "$cache/bench-netboot.XXXXXX") # on a disk, which leases are synced to
trap 'rm -rf --one-file-system "$work"' EXIT
go build -o "$work/windlass" ./cmd/windlass
go build -o "$work/bench" ./test/bench-netboot

echo "$(date -u +%F), $(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(go env GOVERSION), Linux $(uname -r), $(nproc) × $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)"
echo "$(dnsmasq --version | head -n 1 | cut -d' ' -f1-3)$(command -v nginx >/dev/null && nginx -v 2>&1 | sed 's/.*: /, /')"
echo
echo '| what | windlass | against | it | ratio | n |'
echo '|---|---|---|---|---|---|'
"$work/bench" -windlass "$work/windlass" -work "$work" "$@"
