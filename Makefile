# The commands of this project. `make run` and `make test` need nothing but a Rust toolchain and make:
# they install what else they use.

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=
DATA_DIR ?= default.etcd
ETCD ?=
ETCDCTL ?=
SEEDS ?= 1000
KILLS ?= 300
CUTS ?= 10000
RESTARTS ?= 50
HAND_OVERS ?= 1000
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))

BINARIES = etcd etcdctl etcdutl
RELEASE = $(or $(CARGO_TARGET_DIR),target)/release
# Where `install` takes the binaries from; set it to package binaries that are built already.
ETCD_BINARIES ?= $(RELEASE)
ASSETS = $(or $(CARGO_TARGET_DIR),target)/assets

# Where `install` puts things, for systems that differ.
SYSCONF_DIR ?= /etc
LIBEXEC_DIR ?= $(PREFIX)/libexec/etcd
UNIT_DIR ?= $(PREFIX)/lib/systemd/system
SYSUSERS_DIR ?= $(PREFIX)/lib/sysusers.d
TMPFILES_DIR ?= $(PREFIX)/lib/tmpfiles.d
CATALOG_DIR ?= $(PREFIX)/lib/systemd/catalog
MAN_DIR ?= $(PREFIX)/share/man
DOC_DIR ?= $(PREFIX)/share/doc/etcd-server
BASH_COMPLETION_DIR ?= $(PREFIX)/share/bash-completion/completions
ZSH_COMPLETION_DIR ?= $(PREFIX)/share/zsh/site-functions
FISH_COMPLETION_DIR ?= $(PREFIX)/share/fish/vendor_completions.d
# yes: also what systemd 254 and newer understands.
SYSTEMD_254 ?= no

.PHONY: help run build release test lint fmt sim crash power-cuts bit-flips watch lock doctor fuzz bench diff install ci packages lab-test clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## run        start a member on the default ports, data in $(DATA_DIR)
run: deps
	$(CARGO) run --bin etcd -- --data-dir $(DATA_DIR)

## test       everything that must pass before a change lands
test: deps
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features bench --quiet -- -D warnings
	$(CARGO) test --quiet
	packaging/check

## lint       formatting, clippy, documentation
lint: deps
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features bench -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --quiet

## fmt        format the sources
fmt:
	$(CARGO) fmt

## sim        simulate $(SEEDS) clusters with faults
sim: deps
	$(CARGO) test --quiet --test sim -- --seeds $(SEEDS)

## crash      kill a member $(KILLS) times under 64 writers; it must lose nothing
crash: deps
	$(CARGO) build --release --bin etcd
	$(CARGO) test --quiet --test crash -- --kills $(KILLS) --writers 64 --binary $(RELEASE)/etcd

## power-cuts cut the power $(CUTS) times under the log and the database; what was synced must be there
power-cuts: deps
	POWER_CUTS=$(CUTS) $(CARGO) test --quiet --lib power_cut -- --nocapture

## bit-flips  flip every bit of a small log and a small database; it must be harmless or refused
bit-flips: deps
	FLIP_EVERY=1 $(CARGO) test --quiet --lib every_flipped_bit -- --nocapture

## watch      etcdctl watch over $(RESTARTS) restarts of the server (ETCD=path: of that one); no gap, no duplicate
watch: deps
	$(CARGO) build --release --bin etcd --bin etcdctl
	$(CARGO) test --quiet --test ctl -- watch --restarts $(RESTARTS) \
		--etcdctl $(RELEASE)/etcdctl --server $(or $(ETCD),$(RELEASE)/etcd)

## lock       etcdctl lock over $(HAND_OVERS) hand-overs with kills; holders must not overlap
lock: deps
	$(CARGO) build --release --bin etcd --bin etcdctl
	$(CARGO) test --quiet --test ctl -- lock --hand-overs $(HAND_OVERS) \
		--etcdctl $(RELEASE)/etcdctl --server $(or $(ETCD),$(RELEASE)/etcd)

## doctor     a fault for each finding of etcdctl doctor
doctor: deps
	$(CARGO) test --quiet --test ctl -- doctor

## fuzz       fuzz every decoder for $(FUZZ_SECONDS) s; needs a nightly toolchain
fuzz: deps
	@packaging/deps fuzz
	for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/target/found/$$target && \
		$(CARGO) +nightly fuzz run --sanitizer none $$target fuzz/target/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=30 || exit 1; \
	done

## bench      measure against ETCD=path and ETCDCTL=path in turn on this disk; without them only ours
bench: deps
	$(CARGO) build --release --features bench --bins
	$(RELEASE)/etcd-bench compare --ours $(RELEASE)/etcd $(if $(ETCD),--etcd $(ETCD))
	$(RELEASE)/etcd-bench client --ours $(RELEASE)/etcdctl --server $(or $(ETCD),$(RELEASE)/etcd) \
		$(if $(ETCDCTL),--etcdctl $(ETCDCTL))

## diff       the same calls to ours and to ETCD=path; answers must be equal
diff: deps
	$(CARGO) test --quiet --test diff -- --etcd $(ETCD)

build: deps
	$(CARGO) build

release: deps
	$(CARGO) build --release

## install    install binaries, units, configuration and documentation under $(DESTDIR)
install:
	for binary in $(BINARIES); do \
		install -D -m 0755 $(ETCD_BINARIES)/$$binary $(DESTDIR)$(PREFIX)/bin/$$binary || exit 1; \
	done
	packaging/assets $(ETCD_BINARIES) $(ASSETS)
	install -D -m 0755 packaging/etcd-backup $(DESTDIR)$(LIBEXEC_DIR)/etcd-backup
	sed -i 's|/usr/bin/|$(PREFIX)/bin/|' $(DESTDIR)$(LIBEXEC_DIR)/etcd-backup
	install -d $(DESTDIR)$(UNIT_DIR) $(DESTDIR)$(DOC_DIR)
	for unit in etcd.service etcd@.service etcd.socket etcd-backup.service etcd-backup.timer; do \
		sed -e 's|/usr/bin/etcd |$(PREFIX)/bin/etcd |' -e 's|/usr/libexec/etcd/|$(LIBEXEC_DIR)/|' \
			systemd/$$unit > $(DESTDIR)$(UNIT_DIR)/$$unit && \
		chmod 0644 $(DESTDIR)$(UNIT_DIR)/$$unit || exit 1; \
	done
	[ "$(SYSTEMD_254)" != yes ] || for unit in etcd.service etcd@.service; do \
		install -D -m 0644 systemd/etcd-systemd254.conf \
			$(DESTDIR)$(UNIT_DIR)/$$unit.d/10-systemd254.conf || exit 1; \
	done
	install -D -m 0644 systemd/etcd.sysusers $(DESTDIR)$(SYSUSERS_DIR)/etcd.conf
	install -D -m 0644 systemd/etcd.tmpfiles $(DESTDIR)$(TMPFILES_DIR)/etcd.conf
	install -D -m 0644 systemd/etcd.catalog $(DESTDIR)$(CATALOG_DIR)/etcd.catalog
	install -D -m 0644 config/etcd.conf $(DESTDIR)$(SYSCONF_DIR)/etcd/config/etcd.conf
	install -D -m 0644 packaging/backup.conf $(DESTDIR)$(SYSCONF_DIR)/etcd/backup.conf
	install -m 0644 README.md docs/*.md config/etcd.conf.yml $(DESTDIR)$(DOC_DIR)/
	for page in etcd.8 etcd.conf.5 etcdctl.1 etcdutl.1; do \
		install -D -m 0644 $(ASSETS)/$$page $(DESTDIR)$(MAN_DIR)/man$${page##*.}/$$page || exit 1; \
	done
	for binary in $(BINARIES); do \
		install -D -m 0644 $(ASSETS)/$$binary.bash $(DESTDIR)$(BASH_COMPLETION_DIR)/$$binary && \
		install -D -m 0644 $(ASSETS)/$$binary.zsh $(DESTDIR)$(ZSH_COMPLETION_DIR)/_$$binary && \
		install -D -m 0644 $(ASSETS)/$$binary.fish $(DESTDIR)$(FISH_COMPLETION_DIR)/$$binary.fish \
			|| exit 1; \
	done

## packages   build the .deb and .rpm packages into $(PACKAGES)
PACKAGES ?= target/packages
packages:
	packaging/packages $(PACKAGES)

## lab-test   try the packages in $(PACKAGES) on booted machines; needs root and systemd-nspawn
lab-test:
	$(CARGO) build --release --features bench --bin etcd-bench
	PACKAGES=$(PACKAGES) ETCD_BENCH=$(RELEASE)/etcd-bench packaging/lab test

## ci         what a submission must pass
ci: test

deps:
	@packaging/deps

clean:
	$(CARGO) clean
