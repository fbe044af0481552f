# `make` lists what there is. One target folder for everything, so that nothing is built twice.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test test-fast lint engine podman image test-image chatterbox supervisor openapi bench-lease bench-refill bench-events bench-gateway bench-limits soak chaos clean-state

# Where `make run` keeps its state, as `greenroom serve --dev` chooses it.
GREENROOM_STATE ?= $(or $(XDG_STATE_HOME),$(HOME)/.local/state)/greenroom

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

run: ## set up what is missing, then serve on 127.0.0.1:8080
	@scripts/run

test: ## everything: format, lints, unit tests, and the tests against real containers and the real agent
	@scripts/test

test-fast: ## unit tests only: no container engine needed
	cargo test --locked --lib

lint: ## format and clippy, warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings

engine: ## make sure that a container engine answers
	@scripts/engine

podman: ## a Podman of its own at target/podman/socket, until Ctrl-C
	@scripts/podman target/podman/socket

image: engine ## the sandbox image of Gemini CLI
	@scripts/image

test-image: engine ## the small image for tests
	@scripts/test-image

chatterbox: engine ## the image of the agent for tests that says what its prompt asks for
	@scripts/chatterbox

supervisor: ## the static supervisor, in target/supervisor/
	@scripts/supervisor

openapi: ## write openapi/openapi.json and openapi/admin.json anew
	@# By way of new files: a failed build must not leave an empty document.
	cargo run --quiet --locked -- openapi >target/openapi.json && mv target/openapi.json openapi/openapi.json
	cargo run --quiet --locked -- openapi --admin >target/openapi.json && mv target/openapi.json openapi/admin.json

bench-lease: image supervisor ## warm against cold, 50 times each; writes target/bench/lease.json
	cargo bench --locked --bench lease

bench-refill: image supervisor ## refill under continuous leasing against what the machine can start; writes target/bench/refill.json
	cargo bench --locked --bench refill

bench-events: chatterbox supervisor ## events a second and their latency, agent to SSE reader, with 1, 10 and 100 sessions; writes target/bench/events.json
	cargo bench --locked --bench events

bench-limits: supervisor ## neighbours of a user who floods, a million bad tokens, a million users; writes target/bench/limits.json
	cargo bench --locked --bench limits

bench-gateway: ## what the gateway adds to a model call, and what it holds of large bodies; writes target/bench/gateway.json
	cargo bench --locked --bench gateway

soak: image test-image supervisor ## opens, prompts, aborts, kills for MINUTES=20, a census before and after; writes target/bench/soak.json
	MINUTES=$(or $(MINUTES),20) cargo bench --locked --bench soak

chaos: ## the kill, cut and fault tests alone, the long ones included
	@scripts/chaos

clean-state: ## remove the state folder of a stopped `make run`, workspaces included
	@test -n "$(GREENROOM_STATE)" -a "$(GREENROOM_STATE)" != /
	rm -rf --one-file-system "$(GREENROOM_STATE)"
