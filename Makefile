# The commands of this project. `make run` and `make test` need nothing but a Rust toolchain and make:
# they install what else they use.

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=
DATA_DIR ?= default.etcd
ETCD ?=
SEEDS ?= 1000

BINARIES = etcd etcdctl etcdutl
RELEASE = $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: help run build release test lint fmt sim bench diff fuzz install ci packages lab-test docs clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## run        start a member on the default ports, data in $(DATA_DIR)
run: deps
	$(CARGO) run --bin etcd -- --data-dir $(DATA_DIR)

## test       everything that must pass before a change lands
test: deps
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --quiet -- -D warnings
	$(CARGO) test --quiet

## lint       formatting, clippy, documentation
lint: deps
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --quiet

## fmt        format the sources
fmt:
	$(CARGO) fmt

## sim        simulate $(SEEDS) clusters with faults
sim: deps
	$(CARGO) test --quiet --test sim -- --seeds $(SEEDS)

build: deps
	$(CARGO) build

release: deps
	$(CARGO) build --release

## install    install binaries, units, configuration and documentation under $(DESTDIR)$(PREFIX)
install:
	for binary in $(BINARIES); do \
		install -D -m 0755 $(RELEASE)/$$binary $(DESTDIR)$(PREFIX)/bin/$$binary || exit 1; \
	done

## ci         what a submission must pass
ci: test

deps:
	@packaging/deps

clean:
	$(CARGO) clean
