#!/bin/bash
# Runs the tests with the build tag lab of packages, in a guest with real storage servers beside it. Without packages it is those of all.
#
#   test/lab/run.sh [PACKAGE…] [-run REGEX] [-keep]
#   test/lab/run.sh ./attach/rbd -run 'TestShare/.*noshare'
#
# With -keep guest and servers stay when the tests have ended, until this is interrupted; it says how to look around.
set -euo pipefail
root=$(realpath "$(dirname "$0")/../..")
packages=() run='' keep='' timeout=40m
while [ $# -gt 0 ]; do
	case $1 in
	-run) run=${2:?a pattern for the names of tests}; shift ;;
	-keep) keep=yes timeout=24h ;;
	-*) sed -n '2,7p' "$0" >&2; exit 2 ;;
	*)
		dir=$(realpath "$1")
		[ -d "$dir" ] || { echo "run: there is no directory $1" >&2; exit 2; }
		packages+=("${dir#"$root/"}")
		;;
	esac
	shift
done
cd "$root/test/lab"
export WINDLASS_LAB_PACKAGES="${packages[*]}" WINDLASS_LAB_TESTS="$run" WINDLASS_LAB_KEEP="$keep"
exec go test -tags lab -count=1 -v -timeout "$timeout" -run "^TestLab\$" .
