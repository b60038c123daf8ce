SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
TORCH_CPU := --index-url https://download.pytorch.org/whl/cpu

.PHONY: help reproduce report release env test test-quick test-faults lint lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: env ## Make the environment, then every table, figure and verdict of the demo
	source $(BIN)/activate && snakemake all

report: env ## Make results/report.html, one page with every table, figure, verdict and run time
	source $(BIN)/activate && snakemake -- all run_times && snakemake --report results/report.html -- all run_times

release: env ## Check the demo, record it with DVC and push it to dvcstore/
	source $(BIN)/activate && rm-robustness release --runs runs/demo

env: $(ENV)/ready ## Make the environment, .venv (CPU=1: torch's CPU build; PYTHON=python3.12)

# A stamp older than the lock updates the environment.
$(ENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(CPU),$(BIN)/python -m pip install --quiet $(TORCH_CPU) "$$(grep ^torch== requirements.lock)")
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# Two workers: tests mostly wait, and each may start a Snakemake with two cores.
TEST := python -m pytest --numprocesses 2 --dist worksteal

test: env ## Run every test except the slowest ones of Slurm
	source $(BIN)/activate && $(TEST) -m "not faults"

test-quick: env ## Run the tests that train nothing and run no workflow
	source $(BIN)/activate && $(TEST) -m "not slow"

# Installs Slurm (apt, as root) if it is absent.
test-faults: env ## Run the tests of failures on a local Slurm
	source $(BIN)/activate && RM_ROBUSTNESS_NEEDS_SLURM=1 python -m pytest tests/slurm/test_faults.py

lint: env ## Check format, types, imports and rules
	source $(BIN)/activate && ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && mypy src && lint-imports
	source $(BIN)/activate && snakemake --lint

# Run it in an environment made from pyproject.toml alone, then test and commit.
lock: ## Write requirements.lock from the environment
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^rm-robustness' | sed 's/+cpu$$//' > requirements.lock

clean: ## Remove everything that was computed
	rm -rf runs results logs .snakemake
