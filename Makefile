# The two commands of a newcomer: `make demo` and `make test`. Set-up is done once and kept by stamp files.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
FILES  ?=
KILLS  ?= 100
APT    := apt-get install -y git make python3-venv
SOURCES := models runners service dicom_listener skiagraph bench tests
PYTEST := $(BIN)/python -m pytest

export BENTOML_DO_NOT_TRACK := True
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help setup setup-dev demo test lint format bench bench-inference bench-intake ledger plans fuzz chaos drain soak test-gpu lock policy monitoring schemathesis bench-http evaluation ablation

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.made:
	@command -v git >/dev/null || { echo "git is missing: $(APT)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "Python 3.11 or later is needed as $(PYTHON): $(APT), or make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3-venv is missing: $(APT)"; exit 2; }
	@echo "making the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# $(call install,LOCK): what the lock names and nothing else, then the project itself.
define install
	$(BIN)/pip install --requirement $(1)
	@$(BIN)/pip install --quiet --no-deps --editable .
	@$(BIN)/pip check
endef

$(VENV)/.serving: $(VENV)/.made requirements-demo.lock pyproject.toml
	$(call install,requirements-demo.lock)
	@echo "environment: $$(du -sm $(VENV) | cut -f1) MB in $(VENV)"
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.serving $@

setup: $(VENV)/.serving  ## the environment that serves (no torch)

setup-dev: $(VENV)/.dev  ## the environment that trains and tests

demo: $(VENV)/.serving  ## the whole product on this machine; FILES="a.dcm folder/ b.png" for your own
	@$(BIN)/skiagraph demo $(FILES)

test: $(VENV)/.dev  ## the whole suite, warnings as errors
	$(PYTEST)

lint: $(VENV)/.dev  ## format, lint and types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.dev  ## let ruff write
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(VENV)/.dev  ## time from the end of the quiet period to both objects in the PACS
	$(BIN)/python -m bench.turnaround

bench-inference: $(VENV)/.dev  ## radiographs per second; FILES="folder" of hand radiographs
	$(BIN)/python -m bench.inference $(or $(FILES),../shared/data/fracatlas/images)

bench-intake: $(VENV)/.dev  ## MB/s received, beside storescp and Orthanc; QUICK=1 for a tenth
	$(BIN)/python -m bench.intake $(if $(QUICK),--quick)

ledger: $(VENV)/.dev  ## 100,000 studies in the ledger beside 1,000; QUICK=1 for 10,000
	$(BIN)/python -m bench.ledger $(if $(QUICK),--quick)

plans: $(VENV)/.dev  ## TensorRT-RTX plans of every package for every listed GPU, without a GPU
	SKIAGRAPH_PLANS=all $(PYTEST) --timeout=0 tests/runners/engines/test_plan_builder.py tests/runners/engines/test_plan_command.py

fuzz: $(VENV)/.dev  ## 10,000 unfriendly connections, or CASES
	SKIAGRAPH_FUZZ_CASES=$(or $(CASES),10000) $(PYTEST) -s --timeout=0 tests/dicom_listener/test_unfriendly.py

chaos: $(VENV)/.dev  ## 200 studies through every trouble, and kill -9 at every stage, many times
	SKIAGRAPH_CHAOS_STUDIES=$(or $(STUDIES),200) SKIAGRAPH_CHAOS_KILLS=$(KILLS) $(PYTEST) -s --timeout=0 tests/chaos

schemathesis: $(VENV)/.dev  ## 2,000 and more requests that the OpenAPI description allows or forbids
	SKIAGRAPH_SCHEMATHESIS_CASES=$(or $(CASES),2000) $(PYTEST) --timeout=0 tests/service/test_schemathesis.py

bench-http: $(VENV)/.dev  ## what HTTP costs above the runners; REQUESTS=10000: whether memory stays flat
	$(BIN)/python -m bench.http --requests $(or $(REQUESTS),0)

drain: $(VENV)/.dev  ## 500 results, or STUDIES, wait for a dead PACS and drain when it is back
	SKIAGRAPH_DRAIN_STUDIES=$(or $(STUDIES),500) $(PYTEST) -s --timeout=0 tests/dicom_listener/test_drain.py

evaluation: $(VENV)/.dev  ## every package on the validation radiographs: docs/evaluation.md
	$(BIN)/skiagraph models evaluate

ablation: $(VENV)/.dev  ## the paper's preprocessing columns, resumable; then make evaluation
	$(BIN)/python -m models.train.ablation

soak: $(VENV)/.dev  ## 1,000 mixed requests, one in ten broken; then 32 clients for three minutes
	SKIAGRAPH_SOAK_REQUESTS=1000 $(PYTEST) --timeout=0 tests/service/test_mixed_load.py
	$(BIN)/python -m bench.soak $(or $(FILES),../shared/data/fracatlas/images)

monitoring: $(VENV)/.dev  ## Prometheus watches 200 studies and a PACS outage: alerts fire and resolve, the dashboard shows
	$(BIN)/python -m tests.operations.load

$(VENV)/policy/.made: $(VENV)/.dev Makefile
	@$(PYTHON) -m venv $(VENV)/policy
	$(VENV)/policy/bin/pip install --quiet checkov==3.3.30
	@touch $@

policy: $(VENV)/policy/.made  ## the chart in every value set against checkov's policies
	set -e; rendered=$$(mktemp -d); trap "rm -r $$rendered" EXIT; \
	$(BIN)/python -m tests.helm.render $$rendered; \
	$(VENV)/policy/bin/checkov --config-file helm/checkov.yaml --directory $$rendered

test-gpu: $(VENV)/.dev  ## what needs an NVIDIA GPU
	$(PYTEST) -m gpu --timeout=0

lock: $(VENV)/.made  ## pin again what pyproject.toml asks for
	$(BIN)/python .ci/lock.py
