# `make help` lists what there is. Every target finds or installs what it needs.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

export PATH := $(HOME)/.cargo/bin:$(PATH)
# Where cargo builds to.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Only these two crates differ with the feature; both builds share every dependency in one target directory.
CRASH_POINTS := --features votum-coordinator/crash-points,votum-participant/crash-points

# The tests of which `make test` runs a part, and `make matrix` all: what is ignored in them.
MATRICES := crash_matrix network

# What `make bench` measures.
BENCH ?= --shape one-shot,hosted,attached,embedded-one-shot,embedded-hosted --workers 1,8,32 --seconds 2 --warmup 1

step = @printf '\n\033[1m== %s\033[0m\n' '$(1)'

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target what; do \
	    printf '  make %-22s %s\n' "$$target" "$$what"; done
	@printf '  make demo KEEP=1            %s\n' 'The same, left running, with how to talk to it and how to stop it'

.PHONY: setup
setup: ## Find or install Rust, a C compiler and PostgreSQL
	@tests/scripts/install-toolchain
	@tests/scripts/install-postgres >/dev/null

# For the example that speaks the plain contract, which a test runs.
.PHONY: python
python:
	@tests/scripts/python-env >/dev/null

.PHONY: demo
demo: setup ## Watch money move between two PostgreSQL servers while the coordinator is killed
	$(call step,building the demonstration (once, some minutes))
	@tests/scripts/build-programs $(TARGET) crash-points
	@$(if $(KEEP),,tests/scripts/to-the-end) $(TARGET)/debug/demo $(if $(KEEP),--keep)

.PHONY: bench
bench: setup ## Measure Votum against clients without a coordinator (about six minutes after the build; BENCH="--help" for more)
	$(call step,building the programs as they are released)
	cargo build --release -p votum-coordinator -p votum-participant -p votum-bench
	$(call step,measuring)
	@mkdir -p $(TARGET)/bench
	@rm -f $(TARGET)/bench/report.json $(TARGET)/bench/*.svg # of another run, which may have had other loads
	@tests/scripts/to-the-end $(TARGET)/release/votum-bench --json $(TARGET)/bench/report.json --plots $(TARGET)/bench \
	    $(BENCH)

.PHONY: test
test: setup python format lint docs binaries run-tests simulation canaries model-in-bounds ## Everything that must hold before a change is accepted
	$(call step,all passed)

.PHONY: format
format: ## Check the formatting (cargo fmt mends it)
	$(call step,formatting)
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check

.PHONY: lint
lint: ## Clippy, with every warning an error, with and without crash points, and over the fuzz targets
	$(call step,clippy)
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --workspace --lib --bins --quiet $(CRASH_POINTS) -- -D warnings
	$(call step,clippy over the fuzz targets)
	RUSTFLAGS='--cfg fuzzing' cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir $(TARGET)/lint-fuzz \
	    --all-targets --quiet -- -D warnings

.PHONY: docs
docs: ## Build the documentation, with every broken link an error
	$(call step,documentation)
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace --quiet

.PHONY: binaries
binaries: ## Build the programs that the tests run as processes
	$(call step,building the programs with crash points)
	@tests/scripts/build-programs $(TARGET) crash-points
	$(call step,building the programs as they are released and the tests)
	@tests/scripts/build-programs $(TARGET) plain
	cargo test --workspace --no-run

.PHONY: run-tests
run-tests:
	$(call step,tests)
	@tests/scripts/to-the-end cargo test --workspace --no-fail-fast

.PHONY: history
history: setup binaries ## Judge random transactions under kills and cuts, for MINUTES=30; SEED=n for one round again
	$(call step,running and judging)
	@tests/scripts/to-the-end $(TARGET)/debug/history --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

.PHONY: simulation
simulation: setup ## Simulate everything in one thread, seed after seed (SEEDS=20000)
	$(call step,simulating)
	VOTUM_SEEDS=$(or $(SEEDS),20000) cargo test --profile proof -p votum-tests --test simulation -- --nocapture

.PHONY: soak
soak: setup ## Simulate for MINUTES=30, with progress; SEED=n begins there
	$(call step,building the simulation)
	cargo build --profile proof -p votum-tests --bin soak
	$(call step,simulating)
	@$(TARGET)/proof/soak --minutes $(or $(MINUTES),30) $(if $(SEED),--from $(SEED))

.PHONY: fuzz
fuzz: setup ## Fuzz whatever reads bytes from outside, for MINUTES=12 in all; FUZZ="names record" only these
	@tests/scripts/install-cargo-fuzz
	$(call step,fuzzing)
	@tests/scripts/fuzz $(TARGET)/fuzz $(or $(MINUTES),12) $(FUZZ)

.PHONY: canaries
canaries: setup ## Switch on one deliberate mistake after another: each must be caught
	$(call step,listening for canaries)
	cargo test --profile proof -p votum-tests --features canaries --test canaries -- singing --nocapture

.PHONY: matrix
matrix: setup binaries ## Every crash point and every message of the protocol, with every fault (an hour or so)
	$(call step,the matrices)
	@tests/scripts/to-the-end cargo test -p votum-tests --no-fail-fast $(addprefix --test ,$(MATRICES)) -- --ignored --nocapture

.PHONY: test-postgres-versions
test-postgres-versions: setup binaries ## Run the tests that meet a database on every PostgreSQL that can be had
	@tests/scripts/test-postgres-versions $(PG)

.PHONY: model-in-bounds
model-in-bounds: setup ## Explore the protocol's model within small bounds, and demand its canaries
	$(call step,exploring the model)
	cargo test --profile proof -p votum-tests --test model -- --ignored near --nocapture --test-threads 1
	cargo test --profile proof -p votum-tests --features canaries --test model -- --nocapture

.PHONY: model
model: setup ## Explore the protocol's model within larger bounds, with progress
	$(call step,exploring the model)
	cargo test --profile proof -p votum-tests --test model -- --ignored far --nocapture --test-threads 1
