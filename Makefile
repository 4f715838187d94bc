# Two commands: `make demo` finds a known truth in simulated recordings, `make test` checks everything.
# Each makes .venv when it is absent; a second call starts at once.

PYTHON ?= python3
BIN := .venv/bin
# Two workers with one BLAS thread each use two cores; more threads than cores only slow each other down.
JOBS ?= 2
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint types unit docs clean

demo: .venv/.demo
	$(BIN)/neuroalign demo

test: lint types unit docs

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.test
	$(BIN)/mypy

unit: .venv/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

docs: .venv/.test
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf .venv docs/_build docs/api/generated docs/tutorials .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all]"
	touch $@

.venv/.test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all,docs,test]"
	touch $@ .venv/.demo
