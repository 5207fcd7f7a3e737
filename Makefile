# SPDX-License-Identifier: Apache-2.0
# The development commands. `make` lists them. Needs python3 with venv, g++ and make, and git for
# `make dist` and `make dist-check`; the rest comes from PyPI.

PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PACKAGES := overlay quantize hls driver cli
TYPECHECK := build/typecheck
# Stands in for Pythons of .ci/pynq_versions.json that are not found. For 3.13 and newer pynq's dependencies have no wheels.
PYNQ_PYTHON ?= $(PYTHON)
EMPTY := build/empty
# What PYNQ's images have, where it is to be had; else the tests of a board say that it was another one.
BOARD_PYTHON ?= $(shell for p in python3.10 $(HOME)/.pyenv/versions/3.10.*/bin/python3.10 $(PYTHON); do \
    "$$p" -c 'import venv' 2>/dev/null && echo "$$p" && break; done)
PATH_PREFIX := build/typecheck/hetfab/

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help venv demo dist dist-check test test-pynq test-board fuzz check lint types structure generated docs format generate clean

help:
	@echo "make venv      a development environment in $(VENV)"
	@echo "make demo      the example, on this machine, without a board"
	@echo "make test      the tests"
	@echo "make test-pynq the driver's tests with the releases of pynq, each in an environment of its own"
	@echo "make test-board a board behind OpenSSH's server, in an environment with a board's packages only"
	@echo "make check     formatting, lint, types, generated files, rules of the sources"
	@echo "make docs      the pages as a site, build/site/index.html"
	@echo "make dist      the wheel and the sdist, in dist"
	@echo "make dist-check  both installed into an empty environment, where the demo runs"
	@echo "make format    reformats Python and C++"
	@echo "make generate  writes the files that come from tables"
	@echo "make clean     removes everything that was built, except $(VENV)"

# Two stamps: the demo needs the plain install only; the development install serves it as well.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' is not Python 3.10 or newer"; \
	    echo "  do: apt-get install python3, or make PYTHON=/path/to/python3"; exit 3; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' cannot create environments: ensurepip is missing"; \
	    echo "  do: apt-get install python3-venv"; exit 3; } >&2
	@command -v $${CXX:-g++} >/dev/null || { \
	    echo "error: no C++ compiler '$${CXX:-g++}', which builds the emulated overlay"; \
	    echo "  do: apt-get install g++"; exit 3; } >&2
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $(VENV)/runtime.stamp $@

venv: $(VENV)/dev.stamp

demo: $(VENV)/runtime.stamp
	@$(BIN)/hetfab demo -o build/demo

# `pytest`, not `python -m pytest`: the latter puts this folder on sys.path.
test: $(VENV)/dev.stamp
	PYTHONPATH=tests $(BIN)/pytest -p skip_policy -n $(WORKERS) -q --durations=10

# Two thousand mutated files of each reader; by hand, 100,000 (docs/fuzzing.md).
fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.fuzz --cases 2000

# The rows of .ci/pynq_versions.json that CI has time for; `$(BIN)/nox` runs all whose Python is found.
test-pynq: $(VENV)/dev.stamp
	@$(PYNQ_PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { \
	    echo "error: '$(PYNQ_PYTHON)' is not Python 3.10, 3.11 or 3.12, which pynq needs"; \
	    echo "  do: make test-pynq PYNQ_PYTHON=/path/to/python3.11"; exit 3; } >&2
	PYNQ_PYTHON=$(PYNQ_PYTHON) WORKERS=$(WORKERS) $(BIN)/nox --tags ci

# The wheel as a board gets it, without dependencies; numpy and click are there as on PYNQ's images.
test-board: $(VENV)/dev.stamp $(VENV)-board/packages.stamp
	@rm -rf build/lib build/bdist.* build/board
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/board .
	$(PIP) --python $(VENV)-board/bin/python install --no-deps --force-reinstall build/board/*.whl
	HETFAB_BOARD_PYTHON=$(abspath $(VENV)-board)/bin/python PYTHONPATH=tests $(BIN)/pytest -p skip_policy -q tests/test_board.py

$(VENV)-board/packages.stamp: $(VENV)/dev.stamp
	$(BOARD_PYTHON) -m venv --clear --without-pip $(VENV)-board
	$(PIP) --python $(VENV)-board/bin/python install click numpy 'numpy<2; python_version < "3.13"'
	@touch $@

check: lint structure generated types docs

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python .ci/format_cpp.py --check --clang-format $(BIN)/clang-format hls
	$(BIN)/hetfab lint

structure: $(VENV)/dev.stamp
	$(BIN)/pytest -q tests/test_sources.py tests/test_import_order.py

generated: $(VENV)/dev.stamp
	$(BIN)/python -m hetfab.overlay.isa.generate --check
	$(BIN)/python -m hetfab.hls.lint.page --check

# mypy does not follow an editable install, so it reads an installed wheel; paths are printed as they are in the tree.
types: $(VENV)/dev.stamp
	@rm -rf build/lib build/bdist.* build/wheel $(TYPECHECK)
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(PIP) install --no-deps --target $(TYPECHECK) build/wheel/*.whl
	MYPYPATH=$(TYPECHECK) $(BIN)/mypy --strict $(PACKAGES:%=-p hetfab.%) | sed 's#^$(PATH_PREFIX)##'
	MYPYPATH=$(TYPECHECK) $(BIN)/mypy --strict --explicit-package-bases \
	    $(foreach folder,tests benchmarks examples .ci,$(if $(shell find $(folder) -name '*.py' 2>/dev/null),$(folder)))

# Every warning is an error: a link, an anchor, or a page that the index lacks.
docs: $(VENV)/dev.stamp
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/site

# What git tracks, with the time of the last commit or SOURCE_DATE_EPOCH: equal sources give equal bytes.
dist: $(VENV)/dev.stamp
	rm -rf dist
	$(BIN)/python .ci/dist.py

# The wheel with all that it needs, then the sdist in its place.
dist-check: dist
	rm -rf $(EMPTY)
	$(PYTHON) -m venv $(EMPTY)
	for built in dist/*.whl dist/*.tar.gz; do \
	    $(EMPTY)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile "$$built"; \
	    (cd $(EMPTY) && bin/hetfab --version && bin/hetfab demo -o demo >demo.txt) || { cat $(EMPTY)/demo.txt; exit 1; }; \
	    $(EMPTY)/bin/python -m pip --quiet uninstall --yes hetfab; \
	done

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python .ci/format_cpp.py --clang-format $(BIN)/clang-format hls

generate: $(VENV)/dev.stamp
	$(BIN)/python -m hetfab.overlay.isa.generate
	$(BIN)/python -m hetfab.hls.lint.page

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests benchmarks examples .ci -name __pycache__ -prune -exec rm -rf {} +
