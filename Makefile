# Everything a developer or CI runs. `make help` lists it.
VENV := .venv
PYTHON := $(VENV)/bin/python
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help install demo demo-agent test test-faults test-security soak check bench images compose-images lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## packages, Docker Engine, .venv and sandbox images: what is missing of them
	@.ci/install

demo: install ## start everything, run a real task on this repository, fetch its report
	@$(PYTHON) examples/demo.py

demo-agent: install ## the real coding agent fixes a bug, with a scripted model in place of a real one
	@$(PYTHON) examples/demo_agent.py

# Most tests wait more than they compute. A file's tests stay together: they share what it starts.
SPREAD := -n 3 --dist loadfile

test: install ## all tests
	@$(PYTHON) -m pytest $(SPREAD)

test-faults: install ## the whole fault suite: every process may die (half an hour on 2 cores)
	@$(PYTHON) -m pytest $(SPREAD) --all-faults tests/e2e/faults tests/integration/broker

# Ids of isolation-and-faults.md whose tests lie beside what they test, in other folders.
SECURITY := tests/security tests/unit/test_documents.py tests/unit/test_manifest.py tests/unit/test_globs.py \
    tests/unit/test_collect.py tests/unit/test_downloads.py tests/unit/test_git.py tests/unit/test_redactor.py \
    tests/unit/test_output_redaction.py tests/unit/test_log_redaction.py tests/unit/test_secret_custody.py \
    tests/integration/artifacts tests/integration/sandbox tests/integration/test_keeper.py \
    tests/integration/store/test_tokens.py tests/integration/api/test_manifest_attacks.py \
    tests/integration/api/test_artifacts.py tests/integration/api/test_origins.py tests/integration/api/test_access.py \
    tests/integration/api/test_owners.py tests/integration/api/test_audit.py tests/integration/api/test_tls.py \
    tests/e2e/test_runtimes.py tests/e2e/test_images.py
test-security: install ## every attack on the sandbox, its limits and the inputs, long forms included
	@$(PYTHON) -m pytest $(SPREAD) --all-security $(SECURITY)

SOAK := --seconds 600 --tasks 300
soak: install ## random faults under load for ten minutes; SOAK="--seconds 600 --tasks 300 --seed 1" repeats one
	@$(PYTHON) -m tests.e2e.faults.soak $(SOAK)

check: install ## lint, format, types, architecture
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: install ## benchmarks (minutes; wants a quiet machine)
	@$(PYTHON) -m tests.benchmarks.bench

images: install ## build the sandbox images again, base included
	@$(VENV)/bin/sandbox image build --force agentic-dev

compose-images: install ## images for compose.yaml from distribution packages, where no registry is reachable
	@.ci/compose-images

# The build backend is locked with the rest, so that the editable installation needs nothing unhashed.
lock: install ## renew requirements.lock and .ci/server.lock from pyproject.toml
	$(PYTHON) -m pip install --quiet uv
	printf 'hatchling>=1.25\neditables>=0.5\n' | $(VENV)/bin/uv pip compile --quiet --upgrade --universal \
	    --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --extra dev --extra postgresql --extra redis --extra s3 pyproject.toml - --output-file requirements.lock
	printf 'hatchling>=1.25\n' | $(VENV)/bin/uv pip compile --quiet --python-platform linux --python-version 3.11 \
	    --constraint requirements.lock --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --no-emit-find-links --extra postgresql --extra redis --extra s3 pyproject.toml - --output-file .ci/server.lock
