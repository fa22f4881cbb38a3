# Everything a developer or CI runs. `make help` lists it.
VENV := .venv
PYTHON := $(VENV)/bin/python
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench images lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## packages, Docker Engine, .venv and sandbox images: what is missing of them
	@.ci/install

demo: install ## start everything, run a real task on this repository, fetch its report
	@$(PYTHON) examples/demo.py

test: install ## all tests
	@$(PYTHON) -m pytest

check: install ## lint, format, types, architecture
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: install ## benchmarks (minutes; wants a quiet machine)
	@$(PYTHON) -m tests.benchmarks.bench

images: install ## build the sandbox images again, base included
	@$(VENV)/bin/sandbox image build --force agentic-dev

# The build backend is locked with the rest, so that the editable installation needs nothing unhashed.
lock: install ## renew requirements.lock from pyproject.toml
	$(PYTHON) -m pip install --quiet uv
	printf 'hatchling>=1.25\neditables>=0.5\n' | $(VENV)/bin/uv pip compile --quiet --upgrade --universal \
	    --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --extra dev --extra postgresql --extra redis --extra s3 pyproject.toml - --output-file requirements.lock
