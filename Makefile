# The front door. Each target installs what it misses first (scripts/setup) and is quick when nothing is missing.

.NOTPARALLEL:
.DEFAULT_GOAL := help

BIN := .venv/bin

# More arguments for pytest or the benchmarks: make test ARGS="-k cut"
ARGS ?=

# Tests run in this many processes, each file as a whole in one of them. 0: in pytest's own, for a debugger.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

## Start the service in the foreground. It listens on ONECUT_LISTEN (127.0.0.1:8776 unless set) and keeps everything
## under ONECUT_DATA (./onecut-data unless set).
.PHONY: serve
serve:
	@scripts/setup run
	@exec $(BIN)/onecut serve

## Tell in this terminal what the service is for: disks that are written to, one cut across them, and the way back.
.PHONY: demo
demo:
	@scripts/setup run
	@exec $(BIN)/onecut demo

## Run all tests, and say of each skipped one why. ARGS goes to pytest: make test ARGS="-k cut". WORKERS=0 runs them in
## one process, for a debugger.
.PHONY: test
test:
	@scripts/setup dev
	@exec $(PYTEST) $(ARGS)

## Run the tests that take less than ten seconds each.
.PHONY: quick
quick:
	@scripts/setup dev
	@exec $(PYTEST) -m "not slow" $(ARGS)

## Check format, lint, types, the direction of imports, and the lock files. Changes nothing.
.PHONY: check
check:
	@scripts/setup dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check-locks

## Format the code, and mend what the linter can mend by itself.
.PHONY: fmt
fmt:
	@scripts/setup dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

## Measure, print a table, and write bench/results.json. ARGS names sections: make bench ARGS="cuts archives".
.PHONY: bench
bench:
	@scripts/setup bench
	@exec $(BIN)/python -m bench $(ARGS)

## Resolve the dependencies of pyproject.toml anew and write the lock files.
.PHONY: lock
lock:
	@scripts/setup venv
	$(BIN)/python scripts/lock.py

## Print this.
.PHONY: help
help:
	@awk -f scripts/help.awk $(firstword $(MAKEFILE_LIST))
