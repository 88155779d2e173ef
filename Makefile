# `make run` shows the demo camera, `make test` checks everything. Both install what they need into
# .venv first, with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: run test lint types tests schema clean

run: $(VENV)/.runtime
	$(BIN)/python run_stream.py $(ARGS)

test: lint types tests

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

tests: $(VENV)/.development
	$(BIN)/python -m pytest $(ARGS)

schema: $(VENV)/.runtime
	$(BIN)/python -c "from pipeline.config import json_schema; print(json_schema(), end='')" > configs/schema.json

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

# torch first and by itself: a CPU build that is already at hand is then kept, instead of several
# gigabytes of CUDA that the range in pyproject.toml would also allow.
$(VENV)/.development: $(VENV)/.runtime
	$(PIP) install "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -c constraints.txt -e '.[training,export,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
