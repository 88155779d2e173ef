# `make run` shows the demo camera. `make check` is the developer's loop: lint, types and the tests
# that start no process. `make test` checks everything. All install what they need into .venv first,
# with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: run check test lint types quick tests schema clean

run: $(VENV)/.runtime
	$(BIN)/python run_stream.py $(ARGS)

# On two cores types and tests run side by side.
check: $(VENV)/.development
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint types quick

test: lint types tests

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development
	$(BIN)/mypy

quick: $(VENV)/.development
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile $(ARGS)

# Three workers on two cores, because tests wait for processes and cameras a third of the time. A
# file's tests stay together: they share what they have made.
tests: $(VENV)/.development
	$(BIN)/python -m pytest --durations=20 -n 3 --dist loadfile $(ARGS)

# What is generated from the code: the config's schema, the public records, the map of modules.
schema: $(VENV)/.runtime
	$(BIN)/python -c "from pipeline.config import json_schema; print(json_schema(), end='')" > configs/schema.json
	$(BIN)/python -m pipeline.public.schema docs
	$(BIN)/python docs/make_map.py

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
