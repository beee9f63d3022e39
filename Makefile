# The commands that people run. `make demo` and `make test` set everything up by themselves.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: help setup build demo demo-stop test lint fmt bench bench-scale simulate schemas clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

setup: ## Install what is missing, start Docker if none runs, make the local images
	@scripts/setup test

build: ## Build the one binary
	@cargo build --workspace --all-targets

demo: ## Run the main job on examples-repo/ and leave it running
	@scripts/setup demo
	@$(MAKE) --no-print-directory build
	@scripts/demo start

demo-stop: ## End the demo and clean up
	@scripts/demo stop

test: ## Run all tests, end-to-end ones on real parts included
	@scripts/setup test
	@scripts/test

lint: ## Check format and lints, warnings as errors
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings

fmt: ## Format the sources
	@cargo fmt --all

schemas: ## Write schemas/json/ anew from the field table
	@UPDATE_SCHEMAS=1 cargo test -p schemas jsonschema

bench: ## Measure against bare Docker, compose and Swarm, in one run
	@scripts/setup bench
	@$(MAKE) --no-print-directory build
	@scripts/bench peers

simulate: ## Run the whole cluster in memory under faults, SEEDS=n times (200), from seed FIRST=n (0) on
	@SIMULATE_SEEDS=$(or $(SEEDS),200) SIMULATE_FIRST=$(or $(FIRST),0) cargo test -p tests --test simulation -- --nocapture seeds

bench-scale: ## Measure with simulated nodes, by default 500, 1,500 and 5,000 (NODES=100 PODS=10 for less)
	@scripts/setup bench
	@$(MAKE) --no-print-directory build
	@scripts/bench scale $(if $(NODES),--nodes $(NODES)) $(if $(PODS),--pods-per-node $(PODS))

clean:
	@cargo clean
