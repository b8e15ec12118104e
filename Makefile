# Every target builds the environment it needs: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
TESTS := -m pytest -q -n 2 --dist worksteal

.PHONY: demo test test-all test-oldest check clean

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/titans-ts demo --out demo

test: .venv/installed
	$(BIN)/python $(TESTS) -m "not slow"

test-all: .venv/installed
	$(BIN)/python $(TESTS) --durations=25 --durations-min=5

# The oldest supported versions, in an environment of their own. Their deprecation warnings are no errors.
test-oldest:
	test -x .venv-oldest/bin/pip || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[dev]"
	.venv-oldest/bin/python $(TESTS) -m "not slow" -o filterwarnings=ignore::DeprecationWarning

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .venv-oldest build dist *.egg-info demo
