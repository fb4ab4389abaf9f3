# The two commands of the README are `make demo` and `make test`. Whatever they need besides Rust, Node, Python and make
# they install themselves, below target/ and tests/clients/node_modules.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOLS := target/tools
BIN := $(TOOLS)/bin
CHECKS := target/checks
CARGO := PATH="$(CURDIR)/$(BIN):$$PATH" cargo
TRIPLE := x86_64-unknown-linux-gnu
STATIC := target/$(TRIPLE)/release/portcullis-handler
PACKAGE := target/package/portcullis.zip

help:
	@echo "make demo      an hour of a simulated Azure under Portcullis (BREAK=close|event|rule|alert breaks one thing,"
	@echo "               ARGS=--keep stays up and says where to look)"
	@echo "make test      format, lints, docs, licences, unused dependencies, all tests: what CI runs"
	@echo "make lint      the first of it: format, lints, docs"
	@echo "make package   the zip that is deployed: $(PACKAGE)"
	@echo "make table     how each story of an opening ends under every setting of every switch, beside how it must"
	@echo "make matrix    stories under every setting of what nobody knows, and with everything that can go wrong at every call;"
	@echo "               ARGS as in docs/trials.md"
	@echo "make fuzz      every reader of data from outside, for a minute each (SECONDS=600 for longer, TARGET=cedar for one)"
	@echo "make bench     the benchmarks, whose figures stand in docs/benchmarks.md (ONLY=load for one)"
	@echo "make clean     removes target/ and what was installed for tests"

# Before anything is begun: what is missing is named, all at once, with its cure.
guard:
	@infra/guard.sh $(NEEDS)
demo table matrix bench: NEEDS := cargo cc
package: NEEDS := cargo cc python3
fuzz: NEEDS := cargo cc c++ python3
lint: NEEDS := cargo cc
test: NEEDS := cargo cc python3 node npm curl

# The versions are pinned in the files; the stamp makes a second run free.
$(TOOLS)/.stamp: infra/tools.txt tests/clients/requirements.txt | guard
	@echo "== installing tools and the official clients for Python into $(TOOLS)"
	python3 -m venv $(TOOLS)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement infra/tools.txt --requirement tests/clients/requirements.txt
	touch $@

# Apart from the others: what reads Bicep and what talks to Azure want different versions of the same.
$(CHECKS)/.stamp: infra/checks.txt | guard
	@echo "== installing what checks the deployment into $(CHECKS)"
	python3 -m venv $(CHECKS)
	$(CHECKS)/bin/pip install --quiet --disable-pip-version-check --requirement infra/checks.txt
	touch $@

tests/clients/node_modules/.stamp: tests/clients/package-lock.json | guard
	@echo "== installing the official clients for JavaScript into tests/clients"
	cd tests/clients && npm ci --no-audit --no-fund --loglevel=error
	touch $@

demo: guard
	@cargo build --quiet --workspace --bins
	@target/debug/portcullis demo $(if $(BREAK),--break $(BREAK)) $(ARGS)

# A story waits more than half of its time: between two tries of a call, and for what does not answer.
TESTS_AT_ONCE = $(shell echo $$((3 * $$(getconf _NPROCESSORS_ONLN))))
# What is installed comes over the network, while the lints keep the cores busy.
test: guard
	@$(MAKE) --no-print-directory --jobs 4 lint $(TOOLS)/.stamp $(CHECKS)/.stamp tests/clients/node_modules/.stamp
	@echo "== licences, sources, doubled crates"
	$(CARGO) deny --log-level error check licenses sources bans
	@echo "== unused dependencies"
	$(CARGO) shear
	@echo "== deployment"
	$(CHECKS)/bin/python infra/check_bicep.py
	@echo "== queries"
	node tests/clients/kql.mjs
	$(BIN)/python tests/clients/kql.py
	@echo "== tests"
	cargo test --quiet --workspace --doc
	@failed=0; $(CARGO) nextest run --workspace --no-fail-fast --test-threads $(TESTS_AT_ONCE) 2>&1 | tee target/nextest.log || failed=1; \
	$(BIN)/python infra/summary.py target/nextest.log || failed=1; exit $$failed

lint: guard
	@echo "== format"
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	@echo "== lints"
	cargo clippy --quiet --workspace --all-targets -- --deny warnings
	@echo "== documentation"
	RUSTDOCFLAGS="--deny warnings" cargo doc --quiet --workspace --no-deps --document-private-items

# Static, so that the host image's C library does not matter; packed relocations are a megabyte less that is resident.
STATICALLY := -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs
# Two packages of one version are told apart by the commit; without git there is none to tell.
COMMIT = $(shell [ "$$(git rev-parse --show-toplevel 2>/dev/null)" -ef . ] && git describe --always --dirty --abbrev=12 --exclude='*')
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
$(STATIC): guard FORCE
	PORTCULLIS_VERSION="$(VERSION)$(COMMIT:%=+%)" RUSTFLAGS="$(STATICALLY)" cargo build --quiet --release --target $(TRIPLE) --package portcullis --bin portcullis-handler

package: $(STATIC)
	@python3 infra/package.py $(STATIC) target/package/stage $(PACKAGE)

table: guard
	@cargo build --quiet --workspace --bins
	@PORTCULLIS_WHOLE_TABLE=1 cargo test --quiet --package portcullis --test suite table:: -- --nocapture

matrix: guard
	@cargo build --quiet --workspace --bins
	@target/debug/portcullis-trials matrix $(ARGS)

FUZZED := $(sort $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs)))
fuzz: guard $(TOOLS)/.stamp
	@PATH="$(CURDIR)/$(BIN):$$PATH" infra/fuzz.sh $(or $(SECONDS),60) $(or $(TARGET),$(FUZZED))

# Of what is shipped: a program that brings no C library of its own maps the machine's beside it.
BENCHES := handler load sweep costs decision reconcile decide
bench: guard
	@for bench in $(or $(ONLY),$(BENCHES)); do \
		echo "== $$bench"; RUSTFLAGS="$(STATICALLY)" cargo bench --quiet --target $(TRIPLE) --workspace --bench $$bench; done

clean:
	cargo clean
	rm -rf tests/clients/node_modules

FORCE:
.PHONY: help guard demo test lint package table matrix fuzz bench clean FORCE
