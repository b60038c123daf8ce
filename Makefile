SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
TORCH_CPU := --index-url https://download.pytorch.org/whl/cpu

.PHONY: help reproduce report release env test test-quick test-faults lint lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: env ## Compute every table and figure of the demo; the environment comes first
	source $(BIN)/activate && snakemake all

report: env ## One page with every table, figure, verdict and run time: results/report.html
	source $(BIN)/activate && snakemake -- all run_times && snakemake --report results/report.html -- all run_times

release: env ## Record the demo with DVC and push it to dvcstore/, if all of it checks out
	source $(BIN)/activate && rm-robustness release --runs runs/demo

env: $(ENV)/ready ## Make the environment, .venv (CPU=1: torch's CPU build; PYTHON=python3.12)

# The stamp is younger than the lock, or the environment is brought up to date.
$(ENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(CPU),$(BIN)/python -m pip install --quiet $(TORCH_CPU) "$$(grep ^torch== requirements.lock)")
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# Two workers: more of the time is waiting than work, and each may start a Snakemake of two cores.
TEST := python -m pytest --numprocesses 2 --dist worksteal

test: env ## Run every test but the slowest of Slurm
	source $(BIN)/activate && $(TEST) -m "not faults"

test-quick: env ## Run the tests that train nothing and run no workflow
	source $(BIN)/activate && $(TEST) -m "not slow"

# Slurm is installed (apt, as root) where it is absent.
test-faults: env ## Run the tests of a Slurm that fails in every way
	source $(BIN)/activate && RM_ROBUSTNESS_NEEDS_SLURM=1 python -m pytest tests/slurm/test_faults.py

lint: env ## Check format, types, imports and rules
	source $(BIN)/activate && ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && mypy src && lint-imports
	source $(BIN)/activate && snakemake --lint

# Run in an environment made from pyproject.toml alone, then test and commit.
lock: ## Write requirements.lock from the environment
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^rm-robustness' | sed 's/+cpu$$//' > requirements.lock

clean: ## Remove everything that was computed
	rm -rf runs results logs .snakemake
