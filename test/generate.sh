#!/bin/bash
# Makes swagger/models and swagger/client from swagger.yaml.
#
#   test/generate.sh         make them anew
#   test/generate.sh check   fail when what is committed differs from what would be made
set -euo pipefail
cd "$(dirname "$0")/.."
goswagger=github.com/go-swagger/go-swagger/cmd/swagger@v0.36.6

# The generator wants to lie in a module to know the import paths, and leaves files of a definition that has gone: so it works beside,
# in a module of the same name.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp go.mod go.sum swagger.yaml "$work/"
mkdir "$work/swagger"
log=$work/log
if ! (cd "$work" && go run "$goswagger" generate client -q -f swagger.yaml -A windlass -t swagger) >"$log" 2>&1; then
	cat "$log" >&2
	exit 1
fi

if [ "${1:-}" = check ]; then
	for d in models client; do
		if ! diff -ru "swagger/$d" "$work/swagger/$d" >"$work/diff"; then
			head -n 40 "$work/diff" >&2
			echo "swagger/$d is not what swagger.yaml makes: run make generate and commit the result" >&2
			exit 1
		fi
	done
	exit 0
fi
for d in models client; do
	rm -rf "swagger/$d"
	cp -r "$work/swagger/$d" "swagger/$d"
done
