# `make` alone says what there is. The first target that needs Python makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

SUITES := unit lua model integration faults browser
PRESENT := $(foreach suite,$(SUITES),$(if $(wildcard tests/$(suite)/test_*.py),$(suite)))

.DEFAULT_GOAL := help
.PHONY: help run test lint types format attack audit bench bulk drifts fuzz hostile lag load lock memory mutants races recovery scripts simulate timing clean $(SUITES)

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
model: ## walk the service beside a model of the contract, 300,000 random steps (STEPS=…); make test walks 12,000
integration: ## test the parts together, on real servers
faults: ## hurt processes, servers, disks, clocks and connections under load, and print the table (ONLY=… ROUNDS=… TIMES=… SEED=… PLANT=… SERVER=redis); make test does the quick part
browser: ## test the pages in Chromium

# Where model is a goal by itself it is the long walk; the seeds that it prints can be walked again by SCRIP_MODEL_SEED.
STEPS := $(if $(filter model,$(MAKECMDGOALS)),300000)
model: export SCRIP_MODEL_STEPS := $(STEPS)

# So with faults: the long rounds where it is a goal by itself.
LONG := $(filter faults,$(MAKECMDGOALS))

# Some files of tests at a time, each process with servers of its own: lua works all the time, the others mostly wait, for
# servers, leases and locks.
lua: SIDE_BY_SIDE := -n 2 --dist loadfile
integration faults: SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder

$(filter-out $(LONG),$(SUITES)): $(READY)
	$(BIN)/pytest tests/$@ $(SIDE_BY_SIDE)

ifdef LONG
faults: $(READY)
	@$(BIN)/python -m tests.faults $(if $(ONLY),--only '$(ONLY)') $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(TIMES),--times $(TIMES)) \
	  $(if $(SEED),--seed $(SEED)) $(if $(PLANT),--plant '$(PLANT)') $(if $(SERVER),--server $(SERVER))
endif

attack: $(READY) ## guess codes, lock a sale empty and race redeems, with honest buyers beside, and print the table (ATTACK="--guesses 10000")
	@$(BIN)/python -m loadtests.attack $(ATTACK)

bench: $(READY) ## print pairs a second, latencies, CPU, memory, lag, an opening and bulk work as one table (BENCH="--quick", PEERS=folder)
	@$(BIN)/python -m loadtests.bench $(if $(PEERS),--peers $(PEERS)) $(BENCH)

bulk: $(READY) ## generate, upload and export a million codes, run batches, and print what it costs and what a shopper notices (BULK="--codes 100000")
	@$(BIN)/python -m loadtests.bulk $(BULK)

drifts: $(READY) ## let Redis and Postgres come to differ in 1,000 ways under load, and see each found, named and mended (DRIFTS="--seed 2", "--quiet-minutes 10")
	@$(BIN)/python -m tests.drifts $(DRIFTS)

fuzz: $(READY) ## make up 20,000 requests from the OpenAPI document, a million malformed ones, and 20,000 inputs for each parser (FUZZ="--seed 1", MALFORMED="--inputs 10000", EXAMPLES=1000)
	@$(BIN)/python -m tests.schemathesis.run $(FUZZ)
	@$(BIN)/python -m tests.hostile.malformed $(MALFORMED)
	@SCRIP_FUZZ=$(or $(EXAMPLES),20000) $(BIN)/pytest tests/unit/test_properties.py -q

audit: $(READY) ## look for known faults of what is locked (needs the package index and its advisories)
	@$(BIN)/python -m tests.hostile.audit

hostile: $(READY) ## stall 2,000 connections beside honest clients, look for 100,000 codes in all that is logged, and name 100,000 things like keys (CANARIES="--codes 1000", POISON="--names 1000")
	@$(BIN)/python -m tests.hostile.stalled $(STALLED)
	@$(BIN)/python -m tests.hostile.canaries $(CANARIES)
	@$(BIN)/python -m tests.hostile.poison $(POISON)

load: export SCRIP_LOAD_TOKEN := $(TOKEN)
load: $(READY) ## load a service with locust, then check that nothing is over its limit (URL=… TOKEN=…, SHAPE=opening|soak, USERS=… RATE=… SECONDS=… PAY=…)
	@$(BIN)/python -m loadtests.load $(if $(URL),--url $(URL)) $(if $(SHAPE),--shape $(SHAPE)) $(if $(USERS),--users $(USERS)) \
	  $(if $(RATE),--rate $(RATE)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PAY),--pay $(PAY)) $(LOAD)

lag: $(READY) ## measure what the worker and Postgres spend on an event, and how far the record is behind (LAG="--rate 4000", "--against ../other")
	@$(BIN)/python -m loadtests.lag $(LAG)

lock: $(READY) ## resolve the dependencies again (needs uv)
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile pyproject.toml -c requirements.lock --universal --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate -o deploy/requirements.lock

memory: $(READY) ## print what a code costs in Redis, idle, locked and redeemed, at a million of them
	@$(BIN)/python -m loadtests.memory

mutants: $(READY) ## break the scripts and rules one by one and see a test turn red (MUTANTS="--sample 200 --seed 1", "--only lock", "--operator order")
	@$(BIN)/python -m tests.mutants $(MUTANTS)

races: $(READY) ## put 500 requests at once to each limit, 20 times, and print the table (ROUNDS=…, URL=…)
	@$(BIN)/python -m loadtests.races $(if $(URL),--url $(URL)) $(if $(ROUNDS),--rounds $(ROUNDS))

recovery: $(READY) ## lose Redis with a million codes and redemptions behind it, then its last 10,000 events, and print how long it is closed (RECOVERY="--codes 100000")
	@$(BIN)/python -m loadtests.recovery $(RECOVERY)

scripts: $(READY) ## print what a call of each hot script costs Redis in CPU (SCRIPTS="--count", "--calls 20000 --rounds 5")
	@$(BIN)/python -m loadtests.scripts $(SCRIPTS)

simulate: $(READY) ## walk 2,000 seeds of the simulated recovery (SIMULATE="--plant all", "--seed 1")
	@$(BIN)/python -m tests.simulation $(SIMULATE)

timing: $(READY) ## compare how long 200,000 answers to public guesses take, by what is wrong with the code (TIMING="--plant 30")
	@$(BIN)/python -m loadtests.timing $(TIMING)

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
