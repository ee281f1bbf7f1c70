# windlass. `make` alone says what there is to make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system

VERSION ?= $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo unknown)
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

.PHONY: help
help: ## say what there is to make
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r t d; do printf '  make %-14s %s\n' "$$t" "$$d"; done

.PHONY: build
build: ## build bin/windlass and bin/windlass-shim, both static
	@mkdir -p bin
	@$(GOBUILD) -o bin/ ./cmd/windlass ./cmd/windlass-shim

# The second tag is the oldest Ceph whose libraries it is built with and runs with: pacific, quincy, reef, squid or tentacle.
CEPH_RELEASE ?= pacific
.PHONY: ceph
ceph: ## build bin/windlass-ceph, which publishes images to Ceph; it needs a C compiler, librados-dev and librbd-dev
	@mkdir -p bin
	@CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags ceph,$(CEPH_RELEASE) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/windlass-ceph

.PHONY: demo
demo: ## raise a real systemd container from a squashfs and take it down again
	@test/demo.sh

.PHONY: demo-lazy
demo-lazy: ## the same from a chunkfs image that a web server has, with an empty cache
	@test/demo.sh lazy

.PHONY: boot-demo
boot-demo: ## boot an emulated machine over the network, from power-on to its container, on this terminal
	@test/bootdemo.sh

.PHONY: test
test: ## run every check and every test, as continuous integration does
	@test/run.sh

# The packages whose tests run, all without RUN, and what of them.
LAB_PACKAGES ?= $(if $(RUN),./test/storage)
.PHONY: lab
lab: ## run what needs real storage servers, in a guest; one scheme alone: make lab RUN=TestSchemes/rbd-squashfs
	@test/install.sh test
	@test/lab/run.sh $(LAB_PACKAGES) $(if $(RUN),-run '$(RUN)')

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, shellcheck
	@test/install.sh test
	@test/lint.sh

.PHONY: bench
bench: ## measure, side by side with others, and print the table of docs/PERFORMANCE.md
	@test/bench.sh

.PHONY: bench-chunkfs
bench-chunkfs: ## measure chunkfs side by side with the file systems that others boot from
	@test/bench-chunkfs.sh

.PHONY: bench-boot
bench-boot: ## measure the boot of a node side by side with dracut and live-boot, in emulated machines
	@test/bench-boot.sh

.PHONY: bench-netboot
bench-netboot: ## measure the boot server side by side with dnsmasq and nginx
	@test/bench-netboot.sh

.PHONY: crash
crash: ## kill the daemon at every step of a chain, fifty rounds, and the chunkfs server under readers, a thousand times
	@test/install.sh test
	@test/rootfs.sh
	@WINDLASS_CRASH_ROUNDS=50 go test -tags failpoint -count=1 -timeout 4h -v ./test/crash/...
	@WINDLASS_LAZY_KILLS=1000 go test -count=1 -timeout 2h -v ./test/lazyfs/...
	@WINDLASS_CHUNKFS_KILLS=1000 go test -count=1 -timeout 2h -v -run "^TestKilled$$" ./chunkfs/serve
	@WINDLASS_FLIPS=1000000 go test -count=1 -timeout 2h -v ./test/corrupt/...

.PHONY: generate
generate: ## make swagger/models, swagger/client and swagger/spec from swagger.yaml
	@go run ./swagger/generate

.PHONY: install
install: build ## install below DESTDIR and PREFIX, with a systemd unit
	@install -D -m 0755 bin/windlass $(DESTDIR)$(PREFIX)/bin/windlass
	@install -D -m 0755 bin/windlass-shim $(DESTDIR)$(PREFIX)/bin/windlass-shim
	@if [ -e bin/windlass-ceph ]; then install -D -m 0755 bin/windlass-ceph $(DESTDIR)$(PREFIX)/bin/windlass-ceph; fi
	@install -d -m 0755 $(DESTDIR)$(UNITDIR)
	@sed 's|@PREFIX@|$(PREFIX)|g' docs/windlass.service >$(DESTDIR)$(UNITDIR)/windlass.service
	@chmod 0644 $(DESTDIR)$(UNITDIR)/windlass.service

.PHONY: clean
clean: ## remove what was built; the cached root file system stays
	@rm -rf bin
