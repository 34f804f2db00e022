# make run    the demo service on loopback, from a fresh checkout
# make test   the whole suite, from a fresh checkout; at its end a look at the hot paths, which fails nothing
# make bench  the same work on mailgate and the servers that are installed beside it; see docs/benchmarks.rst
# TEST_PROCESSES=4 runs the suite in so many processes; what measures time or memory runs alone, after it
# PYTHON=python3.12 chooses another interpreter for a new .venv

PYTHON ?= python3
TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml

.PHONY: run test bench lint types docs system-packages clean

run: $(VENV)/.installed
	exec $(BIN)/twistd -n --pidfile= mailgate --demo

test: system-packages $(VENV)/.installed-test lint types
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -m "not alone" -n $(TEST_PROCESSES) --dist loadfile --cov --cov-report=
	$(BIN)/python -m pytest -m alone --cov --cov-append --cov-report=
	$(BIN)/python -m coverage report --skip-covered --fail-under=85
	-@$(BIN)/python -m bench short

bench: $(VENV)/.installed-test
	$(BIN)/python -m bench compare

lint: $(VENV)/.installed-test
	$(BIN)/ruff check mailgate twisted tests bench

types: $(VENV)/.installed-test
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html

system-packages:
	sh tests/system-packages.sh

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(METADATA)
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[test]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build
