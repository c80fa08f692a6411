# What the README tells people to call. Every target makes .venv first when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help demo check test bench soak format clean

help: ## Show these targets.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sandbox]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/.installed ## Load the samples into the embedded sandbox.
	@sh samples/demo.sh $(BIN)/cdf-upsert

check: .venv/.installed-dev ## Format, lint, types, architecture.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_architecture.py

test: .venv/.installed-dev ## Run the whole test suite.
	$(BIN)/pytest -n 2

bench: .venv/.installed-dev ## Measure speed, memory and start-up.
	$(BIN)/python -m tests.benchmarks

soak: .venv/.installed-dev ## Run the long tests.
	$(BIN)/pytest -n 2 -m soak

format: .venv/.installed-dev ## Format and mend what ruff can.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the other targets made.
	rm -rf .venv .cdf-upsert build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
