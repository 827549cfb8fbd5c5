# `make` alone says what there is. The first target that needs Python makes .venv. ARGS are a program's own options: --help lists them.
PYTHON ?= python3
BIN := .venv/bin
# `make run` installs what runs; other targets also what tests and tools need, into the same .venv.
RUNTIME := .venv/.runtime
READY := .venv/.ready
STYLUA := .venv/stylua

.DEFAULT_GOAL := help
.PHONY: help run test check bytecode suites lint manifests types format docs bench load lab fuzz lock clean audit

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUNTIME) ## start Scrip with servers of its own on 127.0.0.1:8000 (ARGS="--port 8001"), data in .scrip
	@exec $(BIN)/scrip run $(ARGS)

# Four processes of tests, each with servers of its own: they compute, or wait for servers, leases and locks.
# A long walk of the model prints its seeds; SCRIP_MODEL_SEED walks one again.
# They start Python many times, and without bytecode each start would compile the service again.
test check suites: export SCRIP_MODEL_STEPS := $(STEPS)
test check suites: export PYTHONDONTWRITEBYTECODE :=
# Types are checked beside the tests, which wait often.
test: $(READY) ## lint, types, and in five minutes what needs Python alone; or all of SUITE=unit|client|lua|model|integration|browser|documents (STEPS=300000 for a long model walk)
	@$(if $(SUITE),,$(MAKE) --no-print-directory --jobs 2 --output-sync lint bytecode STRIDE=test)
	@$(MAKE) --no-print-directory --jobs 2 $(if $(SUITE),,types) suites STRIDE=$(if $(SUITE),,test)

check: $(READY) ## what `make test` leaves out: manifests, slow tests, and those with Debian's servers and Chromium
	@$(MAKE) --no-print-directory --jobs 2 manifests suites STRIDE=check

# pytest compiles a new clone's tests in ten seconds: here once, not in each of four processes. `suites` reports errors.
bytecode: $(READY)
	@$(BIN)/pytest $(STRIDE:%=--stride %) --collect-only -q > /dev/null 2>&1 || true

suites: $(READY)
	$(if $(wildcard tests/$(SUITE)),,$(error There is no suite $(SUITE); choose one: make help))
	$(BIN)/pytest $(if $(SUITE),tests/$(SUITE),tests loadtests/tests) $(STRIDE:%=--stride %) -n 4 --dist worksteal

lint: $(READY) $(STYLUA)/.ready ## style of Python, Lua and SQL, rules of import
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/node $(STYLUA)/format.mjs --check stylua.toml lua
	$(BIN)/sqruff lint sql
	$(BIN)/lint-imports

manifests: $(READY) ## check image, compose file, manifests, templates
	$(BIN)/yamllint --strict compose.yaml deploy .github .pre-commit-config.yaml
	$(BIN)/hadolint deploy/Dockerfile deploy/aws/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/kubernetes-validate --quiet --strict --kubernetes-version 1.30.0 deploy/kubernetes/*.yaml
	$(BIN)/cfn-lint deploy/aws/*.yaml deploy/observability/generated/aws.yaml

types: $(READY) ## check the types
	$(BIN)/pyrefly check --progress-bar no

format: $(READY) $(STYLUA)/.ready ## format Python, Lua and SQL
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/node $(STYLUA)/format.mjs stylua.toml lua
	$(BIN)/sqruff fix sql

docs: $(RUNTIME) ## make a site of the documents in build/site (with Zensical, in .venv-docs)
	@test -x .venv-docs/bin/zensical || { $(PYTHON) -m venv .venv-docs && \
	  .venv-docs/bin/pip install --quiet --disable-pip-version-check --require-hashes -r deploy/docs.lock; }
	@$(BIN)/python -m tests.site
	.venv-docs/bin/zensical build --clean --strict

bench: $(READY) ## measure speed and cost as one table, or PART=bulk|memory|calls|lane|timing|recovery|bounds|tenants|reports (ARGS="--quick")
	@$(BIN)/python -m loadtests.bench $(PART) $(ARGS)

load: $(READY) ## load a service with locust, then check that nothing is over its limit (ARGS="--shape opening")
	@$(BIN)/python -m loadtests.load $(ARGS)

lab: $(READY) ## break a service on purpose, and judge what comes of it: PART=faults|alarms|attack|client|hostile|mutants|drifts
	@$(BIN)/python -m tests.lab $(PART) $(ARGS)

# FUZZ="--seed 1" is for the first two, EXAMPLES=1000 for the last.
fuzz: $(READY) ## send 20,000 requests made up from the OpenAPI document, both ends of each of its types, and 20,000 inputs to each parser and to the protocol
	@$(BIN)/python -m tests.schemathesis.run $(FUZZ)
	@$(BIN)/python -m tests.schemathesis.type_ends $(FUZZ)
	@SCRIP_FUZZ=$(or $(EXAMPLES),20000) $(BIN)/pytest tests/unit/test_properties.py -q

# Not part of `lint`, since it needs the package index and its advisories, and new advisories turn it red by themselves.
audit: ## look for known faults of the locked packages (in .venv-audit); red also where nothing is known of one
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && \
	  .venv-audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.9,<3'; }
	.venv-audit/bin/pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off

lock: $(READY) ## resolve the dependencies again (needs uv)
	uv pip compile pyproject.toml --group dev --extra embedded --extra otel --universal --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml client/pyproject.toml --extra embedded -c requirements.lock --universal --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate -o run.lock
	uv pip compile pyproject.toml --extra otel -c requirements.lock --universal --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate -o deploy/requirements.lock
	uv pip compile --group pyproject.toml:load -c requirements.lock --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate -o deploy/load.lock
	uv pip compile --group pyproject.toml:docs --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate -o deploy/docs.lock

clean: ## remove .venv and what tools leave behind, but no data
	rm -rf .venv .venv-audit .venv-docs .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find service client tests loadtests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml run.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Scrip needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python install.py run.lock "about a minute"
	@touch $@

$(READY): $(RUNTIME) requirements.lock
	@$(BIN)/python install.py requirements.lock "two minutes"
	@touch $@

$(STYLUA)/.ready: $(wildcard .ci/stylua/*) | $(READY)
	@mkdir -p $(@D) && cp .ci/stylua/* $(@D)
	@cd $(@D) && ../bin/npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@
