# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: help demo test fast check format weights clean

help:
	@echo "make demo    set up, explain three photographs, print where the figures lie"
	@echo "make test    set up, run all tests"
	@echo "make fast    the tests that are not marked slow"
	@echo "make check   format, lint, types, then all tests"
	@echo "make format  write the code in the house's format"
	@echo "make weights fetch the networks that some tests need (with CI=true, make test does so)"

demo: .venv/.demo
	$(BIN)/counterpoint explain sample:chelsea sample:coffee sample:rocket --out demo

test: .venv/.dev $(if $(CI),weights)
	$(BIN)/python -m pytest -n 2 $(PYTEST)

fast: .venv/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow" $(PYTEST)

check: .venv/.dev
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(MAKE) test

# The networks that tests marked `weights` ask for; CI has them, elsewhere they are skipped until somebody fetches them.
weights: .venv/.dev
	$(BIN)/counterpoint models fetch resnet50 squeezenet1_1 mtcnn

format: .venv/.dev
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

# Stamps: a set-up is made again only when what it installs has changed.
.venv/.made:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/.demo: .venv/.made pyproject.toml
	@echo "Installing Counterpoint and its demo (once; about two minutes)"
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	touch $@

.venv/.dev: .venv/.made pyproject.toml
	@echo "Installing Counterpoint with everything its tests need (once; about three minutes)"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@# For its twenty labelled photographs: it is never imported, and would bring packages that nothing here needs.
	$(BIN)/python -m pip install --quiet --no-deps foolbox==3.3.4
	touch $@ .venv/.demo

clean:
	rm -rf .venv demo counterpoint-out build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
