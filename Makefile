# The two commands: `make sweep` and `make test`. `make help` lists the rest.
# EXPERIMENT=experiments/mnist_mlp.yaml ARGS="lr=0.01" pass through.

PYTHON ?= python3
VENV ?= .venv
EXPERIMENT ?= experiments/digits.yaml
ARGS ?=
PORT ?= 5000
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install install-extras sweep search test test-slow test-all test-versions coverage \
	compare ui doctor bench soak check hooks lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## create .venv with the locked dependencies

# A stamp, so that an installed environment costs nothing; made anew when the lock changes.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "harness needs Python 3.11 or newer; set PYTHON=")'
	@echo "Installing into $(VENV) (torch is large: this takes a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	@touch $@

install-extras: $(READY) ## add what is optional: Ray, PostgreSQL's driver
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,ray,postgres]'

sweep: $(READY) ## run EXPERIMENT (default: digits) and print the comparison
	@$(BIN)/python -m harness.sweep $(EXPERIMENT) $(ARGS)

ifeq ($(origin EXPERIMENT),file)
search: EXPERIMENT := experiments/digits_search.yaml
endif
search: $(READY) ## tune what EXPERIMENT names (default: digits_search), compare default and tuned
	@$(BIN)/python -m harness.search $(EXPERIMENT) $(ARGS)

compare: $(READY) ## compare the runs of EXPERIMENT
	@$(BIN)/python -m harness.compare $(EXPERIMENT) $(ARGS)

ui: $(READY) ## MLflow's UI on 127.0.0.1 (PORT=5000)
	@$(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlruns/mlflow.db}" $(ARGS)

doctor: $(READY) ## examine the set-up and the store (ARGS=--fix mends)
	@$(BIN)/python -m harness.doctor $(ARGS)

test: $(READY) ## all tests but the long ones
	@$(BIN)/python -m pytest -m "not slow" -n 2 $(ARGS)

test-slow: $(READY) ## the long tests
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

test-all: test test-slow ## all tests

test-versions: $(READY) ## the short tests with the oldest and newest dependencies, on each Python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python -m checks.versions $(ARGS)

coverage: $(READY) ## the short tests, and which lines of harness/ they run
	@$(BIN)/python -m pytest -m "not slow" -n 2 --cov=harness --cov-report=term:skip-covered $(ARGS)

bench: $(READY) ## the benchmarks, side by side, as ratios
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY) ## 10,000 trials, killed every few seconds (ARGS="--trials 300")
	@$(BIN)/python -m checks.soak $(ARGS)

check: $(READY) ## lint, format, types, and known vulnerabilities where one can ask
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m checks.audit

hooks: $(READY) ## check each commit before it is made (pre-commit)
	@$(BIN)/pre-commit install --hook-type pre-commit --hook-type commit-msg

lock: $(READY) ## write requirements.lock from what is installed
	@$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean: ## remove .venv and caches; results under mlruns/ stay
	rm -rf $(VENV) .venvs .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
