#!/bin/bash
# Format, vet, staticcheck and shellcheck over all that is written by hand. All of them run; the first failure does not hide the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
code=0

mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.go' ':!swagger/models' ':!swagger/client')
existing=()
for f in "${files[@]}"; do [ ! -e "$f" ] || existing+=("$f"); done
unformatted=$(gofmt -l "${existing[@]}")
if [ -n "$unformatted" ]; then
	echo "not formatted, run gofmt -w on: $unformatted" >&2
	code=1
fi

# Everything at once, and then what stands for its absence.
tags=failpoint,guest,lab,ceph,pacific
mapfile -t packages < <(go list -tags "$tags" ./... | grep -Ev '/swagger/(models|client)(/|$)')
go vet -tags "$tags" ./... || code=1
go vet ./internal/failpoint || code=1
# Modules of their own: what they ask for is no dependency of windlass.
for module in test/contract test/initboot/layer0; do
	(cd "$module" && go vet ./...) || code=1
done
go run "$staticcheck" -tags "$tags" "${packages[@]}" || code=1
go run "$staticcheck" ./internal/failpoint || code=1

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
shellcheck "${scripts[@]}" || code=1
exit $code
