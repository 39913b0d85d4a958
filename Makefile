# The commands of this project. Each sets up what it needs by itself (scripts/setup): quick when all is there.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# cargo-nextest may have been built into the checkout; rustup's directory is not on everyone's PATH.
export PATH := $(CURDIR)/.tools/bin:$(PATH):$(HOME)/.cargo/bin

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
GUESTS := --manifest-path plugins/Cargo.toml
# Guests are built with a target directory of their own, so that their flags and profiles never rebuild the host.
GUEST_CARGO := env CARGO_TARGET_DIR=$(CURDIR)/plugins/target cargo

# Says in a line what is built and how far it is; VERBOSE=1 shows everything.
STEP := scripts/step
BINS := $(STEP) bins "the host and the programs of the tests" cargo build --locked --workspace --bins

# Further arguments for the test runner: `make test ARGS=a_name`, or for the host: `make dev ARGS="--port 3000"`.
ARGS ?=

.PHONY: help
help: ## List these commands
	@bold='' plain=''; if [[ -t 1 && -z $${NO_COLOR:-} ]]; then bold=$$'\e[1m' plain=$$'\e[0m'; fi; \
	sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' Makefile | \
	while IFS=$$'\t' read -r name text; do printf '  %smake %-12s%s %s\n' "$$bold" "$$name" "$$plain" "$$text"; done

.PHONY: dev
dev: plugins ## Start a broker, a Postgres and the host on this machine; Ctrl-C ends all three
	@scripts/setup dev
	@$(STEP) host "the host" cargo build --locked --workspace --bin taskhost
	@exec $(TARGET_DIR)/debug/taskhost dev $(ARGS)

# How many worlds. The first seed is SEED, as for chaos below.
SEEDS ?= 10000

.PHONY: sim
sim: ## Run seeded worlds of crashes, lost answers and zombies, without servers (SEEDS=10000 SEED=1; ARGS=--story)
	@scripts/setup build
	@$(STEP) sim "the simulator" cargo build --locked --workspace --bin taskhost-sim
	@$(TARGET_DIR)/debug/taskhost-sim --seeds $(SEEDS) --seed $(SEED) $(ARGS)

.PHONY: test
test: plugins ## Run every test, against a real broker and a real Postgres (ARGS: what nextest takes)
	@scripts/setup test
	$(GUEST_CARGO) test --locked $(GUESTS) --workspace --quiet
	@$(BINS)
	cargo test --locked --workspace --doc --quiet
	$(if $(ARGS),,$(TARGET_DIR)/debug/taskhost-sim --seeds 3000)
	$(TARGET_DIR)/debug/with-services -- cargo nextest run --locked --workspace $(if $(CI),--profile ci) -E 'not binary(slow)' $(ARGS)

.PHONY: test-slow
test-slow: plugins ## Run the tests of long faults and outages, then chaos for 2 minutes (ARGS: what nextest takes)
	@scripts/setup test
	@$(BINS)
	$(TARGET_DIR)/debug/with-services -- cargo nextest run --locked --workspace $(if $(CI),--profile ci) -E 'binary(slow)' $(ARGS)
	$(if $(ARGS),,$(MAKE) chaos SECONDS_MAX=120 SEED=40)

# What chaos draws from: how many faults, or for how long, and which load and moments.
FAULTS ?= 40
SECONDS_MAX ?=
SEED ?= 1

.PHONY: chaos
chaos: plugins ## Kill, freeze and swap at random, and see what it did (FAULTS=40 SEED=1)
	@scripts/setup test
	@$(BINS)
	$(TARGET_DIR)/debug/taskhost-chaos $(if $(SECONDS_MAX),--seconds $(SECONDS_MAX),--faults $(FAULTS)) --seed $(SEED) --report $(TARGET_DIR)/chaos/report.json $(ARGS)

.PHONY: soak
soak: ## Chaos for two hours (SECONDS_MAX=7200 SEED=1)
	@$(MAKE) chaos SECONDS_MAX=$(or $(SECONDS_MAX),7200) SEED=$(SEED)

.PHONY: build
build: plugins ## Build the plugins and the host
	@scripts/setup build
	@$(STEP) build "the workspace" cargo build --locked --workspace

.PHONY: plugins
plugins: ## Build the plugins, examples and test guests to WebAssembly components
	@scripts/setup plugins
	@RUSTFLAGS="--remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo" \
	$(STEP) plugins "the plugins" $(GUEST_CARGO) build --locked $(GUESTS) --workspace --release --target wasm32-wasip2

.PHONY: lint
lint: ## Check formatting, clippy, lock files, shell scripts and the compose file
	@scripts/setup lint
	cargo fmt --all --check
	cargo fmt $(GUESTS) --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(GUEST_CARGO) clippy --locked $(GUESTS) --workspace --all-targets -- -D warnings
	@scripts/lint-files

.PHONY: fmt
fmt: ## Format the code
	@scripts/setup fmt
	cargo fmt --all
	cargo fmt $(GUESTS) --all

.PHONY: bench-setup
bench-setup: plugins ## Build what `make bench` measures: the host as it is released, and the other stacks
	@scripts/setup bench
	cargo build --locked --workspace --release --bin taskhost --features taskhost/jemalloc
	@$(BINS)

.PHONY: bench
bench: bench-setup ## Measure the host beside other stacks (QUICK=1: under five minutes; FRESH=1: from the start)
	$(TARGET_DIR)/debug/taskhost-bench --host $(TARGET_DIR)/release/taskhost --report $(TARGET_DIR)/bench/report.json $(ARGS)

.PHONY: bench-native
bench-native: ## Build two more programs for `make bench`: rules compiled in, and decisions that are there already
	@scripts/setup bench
	cargo build --locked --workspace --release --bin taskhost-native --bin taskhost-bare --features taskhost-bench/compiled-in,taskhost/jemalloc

.PHONY: bench-micro
bench-micro: plugins ## Measure the steps of one batch alone: decode, decide, write set, frame
	@scripts/setup build
	cargo bench --locked --workspace --bench batch $(if $(ARGS),-- $(ARGS))

# Another directory, as frame pointers go through everything.
PROFILE_DIR := $(TARGET_DIR)/profile

.PHONY: profile
profile: plugins ## Draw where the host's time goes at full load: docs/performance/ (needs perf)
	@scripts/setup bench
	RUSTFLAGS="-C force-frame-pointers=yes" CFLAGS=-fno-omit-frame-pointer CARGO_TARGET_DIR=$(PROFILE_DIR) \
	cargo build --locked --workspace --release --bin taskhost --features taskhost/jemalloc
	@$(BINS)
	$(TARGET_DIR)/debug/taskhost-bench --host $(PROFILE_DIR)/release/taskhost --profile docs/performance $(ARGS)
