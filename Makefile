# make reproduce: environment, then every table and figure of the demo. CPU=1 takes torch's CPU build.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
TORCH_CPU := --index-url https://download.pytorch.org/whl/cpu

.PHONY: reproduce report release env test test-quick test-faults lint lock clean

reproduce: env
	source $(BIN)/activate && snakemake all

# One page with every table, figure, verdict and run time.
report: env
	source $(BIN)/activate && snakemake -- all run_times && snakemake --report results/report.html -- all run_times

# The demo, recorded with DVC and put into dvcstore/; refused where a record would not be true.
release: env
	source $(BIN)/activate && rm-robustness release --runs runs/demo

env: $(ENV)/ready

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

test: env
	source $(BIN)/activate && $(TEST) -m "not faults"

test-quick: env
	source $(BIN)/activate && $(TEST) -m "not slow"

# A Slurm that fails in every way; it is installed (apt, as root) where it is absent.
test-faults: env
	source $(BIN)/activate && RM_ROBUSTNESS_NEEDS_SLURM=1 python -m pytest tests/slurm/test_faults.py

lint: env
	source $(BIN)/activate && ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && mypy src
	source $(BIN)/activate && snakemake --lint

# New pins: run in an environment made from pyproject.toml alone, then test and commit.
lock:
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^rm-robustness' | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf runs results logs .snakemake
