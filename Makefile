# Everything a person or CI does here, one target each; `make` alone lists them.
# Needs only make and Python >= 3.11. Variables: ARGS (passed on), PYTHON (which interpreter makes .venv), TEST_WORKERS.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-serial check lint format-check types imports format lock soak clean

BIN := .venv/bin
STAMP := .venv/.setup-stamp
TEST_WORKERS ?= 2
# Tests that start real processes or containers run one after another; all others run beside each other.
SERIAL := cluster or compose
LOCK := pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --universal \
	--python-version 3.11 --custom-compile-command "make lock" $(ARGS)
# pyright's wrapper would ask an index for a newer version of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the package and its tools
	@:

$(STAMP): pyproject.toml requirements/dev.txt scripts/setup
	@scripts/setup
	@touch $@

demo: setup ## run the Yahoo Streaming Benchmark on a real local cluster; ARGS="--seconds 10 --kill worker"
	@$(BIN)/drizzle demo $(ARGS)

test: setup ## run all tests but the soak; ARGS are pytest's
	@$(MAKE) --no-print-directory test-fast
	@$(MAKE) --no-print-directory test-serial

test-fast: setup ## only the tests that start no process
	$(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal -m "not ($(SERIAL) or soak)" $(ARGS)

# An empty selection (pytest's exit code 5) is no failure here: ARGS may pick none.
test-serial: setup ## only the tests that start processes or containers
	$(BIN)/pytest -m "($(SERIAL)) and not soak" $(ARGS) || test $$? -eq 5

check: lint format-check types imports ## ruff, pyright, import-linter; `make -k check` reports all of them

lint: setup
	$(BIN)/ruff check

format-check: setup
	$(BIN)/ruff format --check

types: setup
	$(BIN)/pyright --warnings

imports: setup
	$(BIN)/lint-imports --no-logo

format: setup ## let ruff format and mend what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: setup ## write requirements/*.txt anew from pyproject.toml and dev.in; ARGS=--upgrade for newer versions
	$(BIN)/uv $(LOCK) pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv $(LOCK) pyproject.toml requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt

soak: setup ## run the long tests of memory, keys and log size
	$(BIN)/pytest -m soak $(ARGS)

clean: ## remove what the targets above made, .venv too
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find services loadgen benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
