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

go vet ./... || code=1
go vet -tags failpoint,guest,lab ./... || code=1
go vet -tags ceph,pacific ./image/rbd ./cmd/windlass-ceph || code=1
mapfile -t lab < <(git ls-files --cached --others --exclude-standard '*_lab_test.go' | xargs -n 1 dirname | sort -u | sed 's#^#./#')
go run "$staticcheck" -tags lab,failpoint ./test/lab "${lab[@]}" || code=1
if [ -e test/contract/go.mod ]; then
	(cd test/contract && go vet ./...) || code=1
fi

go list ./... | grep -Ev '/swagger/(models|client)(/|$)' | xargs go run "$staticcheck" || code=1
go run "$staticcheck" -tags ceph,pacific ./image/rbd ./cmd/windlass-ceph || code=1
mapfile -t lab < <(git ls-files --cached --others --exclude-standard '*_lab_test.go' | xargs -n 1 dirname | sort -u | sed 's#^#./#')
go run "$staticcheck" -tags lab,failpoint ./test/lab "${lab[@]}" || code=1

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
shellcheck "${scripts[@]}" || code=1
exit $code
