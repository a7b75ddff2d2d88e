# The two commands are `make sweep` and `make test`; `make help` lists all targets. Choose what they
# work on so: make sweep EXPERIMENT=experiments/mnist_mlp.yaml ARGS="lr=0.01".

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

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## create .venv with the locked dependencies

# A stamp file: make installs again only when the dependencies change.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "harness needs Python 3.11 or newer; set PYTHON=")'
	@echo "Installing into $(VENV) (torch is large: this takes a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	@touch $@

install-extras: $(READY) ## also install Ray, PostgreSQL's driver, Lightning and optimizers
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,lightning,ray,postgres,optimizers]'

sweep: $(READY) ## run EXPERIMENT (default: digits) and compare its trials
	@$(BIN)/python -m harness.sweep $(EXPERIMENT) $(ARGS)

ifeq ($(origin EXPERIMENT),file)
search: EXPERIMENT := experiments/digits_search.yaml
endif
search: $(READY) ## tune EXPERIMENT (default: digits_search), and compare tuned with default options
	@$(BIN)/python -m harness.search $(EXPERIMENT) $(ARGS)

compare: $(READY) ## compare the trials of EXPERIMENT
	@$(BIN)/python -m harness.compare $(EXPERIMENT) $(ARGS)

ui: $(READY) ## serve MLflow's UI on 127.0.0.1 (PORT=5000)
	@$(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --backend-store-uri "$$($(BIN)/python -m harness.store.uris)" $(ARGS)

doctor: $(READY) ## examine the set-up and the store (ARGS=--fix repairs)
	@$(BIN)/python -m harness.doctor $(ARGS)

test: $(READY) ## run all tests except the long ones
	@$(BIN)/python -m pytest -m "not slow" -n 2 $(ARGS)

test-slow: $(READY) ## run the long tests
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

test-all: test test-slow ## run all tests

test-versions: $(READY) ## run the short tests with the oldest and newest dependencies
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/python -m checks.versions $(ARGS)

coverage: $(READY) ## run the short tests and report which lines they reach
	@$(BIN)/python -m pytest -m "not slow" -n 2 --cov=harness --cov-report=term:skip-covered $(ARGS)

bench: $(READY) ## run the benchmarks, side by side, as ratios
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(READY) ## run 10,000 trials and kill them every few seconds (ARGS="--trials 300")
	@$(BIN)/python -m checks.soak $(ARGS)

check: $(READY) ## check lint, format, types and known vulnerabilities
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m checks.audit

hooks: $(READY) ## install the pre-commit hooks
	@$(BIN)/pre-commit install --hook-type pre-commit --hook-type commit-msg

lock: $(READY) ## write requirements.lock from .venv
	@$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

clean: ## remove .venv and caches; keep results under mlruns/
	rm -rf $(VENV) .venvs .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
