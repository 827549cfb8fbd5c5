# `make` alone says what there is. The first target that needs Python makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

SUITES := unit lua integration faults browser
PRESENT := $(foreach suite,$(SUITES),$(if $(wildcard tests/$(suite)/test_*.py),$(suite)))

.DEFAULT_GOAL := help
.PHONY: help run test lint types format lock memory clean $(SUITES)

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## start Scrip with servers of its own on 127.0.0.1:8000 (SCRIP_PORT), data in .scrip
	@exec $(BIN)/scrip run

test: lint types $(PRESENT) ## lint, types and every suite of tests

lint: $(READY) ## style, rules of import, compose file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict -d '{extends: default, rules: {line-length: {max: 120}, document-start: disable}}' compose.yaml

types: $(READY) ## check the types
	$(BIN)/pyright

format: $(READY) ## put the source into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: ## test without any process
lua: ## test the scripts, on fakeredis and on real servers
integration: ## test the parts together, on real servers
faults: ## test with processes killed, stopped and cut off
browser: ## test the pages in Chromium

$(SUITES): $(READY)
	$(BIN)/pytest tests/$@

lock: $(READY) ## resolve the dependencies again (needs uv)
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml -c requirements.lock --universal --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate -o deploy/requirements.lock

memory: $(READY) ## print what an idle code costs in Redis, at a million of them
	@$(BIN)/python -m loadtests.memory

clean: ## remove .venv and what tools leave behind, but no data
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find service tests loadtests -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Scrip needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
