# Needs python3 (>= 3.11) and make, nothing else: the first target that needs it makes .venv, and a
# change of pyproject.toml makes it anew.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
CODE := biopart tests tools docs/hooks.py docs/render.py
TESTS := not network and not gpu
# A process of tests for every core, each of one thread: more would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

.DEFAULT_GOAL := help
OLDEST ?= 3.11
NEWEST ?= 3.13
# Old releases of libraries deprecate what they use themselves; that is not ours to mend.
QUIET := -W ignore::DeprecationWarning -W ignore::FutureWarning -W ignore::PendingDeprecationWarning
.PHONY: help demo docs test test-all test-notebooks test-versions lint format

help:
	@echo "make demo       simulate nights, pretrain, finetune and write demo/demo.html"
	@echo "make test       ruff, mypy and the tests (under 6 minutes on two cores)"
	@echo "make test-all   the same with the slow tests"
	@echo "make test-notebooks  run all notebooks on simulated nights (under 10 minutes)"
	@echo "make test-versions   the tests with the lowest stated versions on Python $(OLDEST) and with"
	@echo "                the newest on Python $(NEWEST)"
	@echo "make docs       build the site into site/"
	@echo "make lint       ruff and mypy alone"
	@echo "make format     let ruff format and repair the code"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "biopart needs Python 3.11 or newer; name one by: make PYTHON=python3.12")'
	@echo "installing into .venv (once; PyTorch takes a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install -qq --editable . --group dev
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/biopart demo --out demo

lint: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy

format: $(INSTALLED)
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

test: lint
	@$(PYTEST)

test-all: lint
	@$(PYTEST) -m "$(TESTS)"

test-notebooks: $(INSTALLED)
	@$(BIN)/python -m pip install -qq --group notebooks
	@$(BIN)/pytest -m slow tests/test_notebooks.py

.versions/uv: pyproject.toml
	@$(PYTHON) -m venv $@
	@$@/bin/python -m pip install -qq uv

test-versions: .versions/uv
	@.versions/uv/bin/uv venv -q --clear --python $(OLDEST) .versions/lowest
	@.versions/uv/bin/uv pip install -q --python .versions/lowest --resolution lowest-direct --editable . --group dev
	@.versions/lowest/bin/python -m pytest $(QUIET)
	@.versions/uv/bin/uv venv -q --clear --python $(NEWEST) .versions/newest
	@.versions/uv/bin/uv pip install -q --python .versions/newest --upgrade --editable . --group dev
	@.versions/newest/bin/python -m pytest

docs: $(INSTALLED)
	@$(BIN)/python -m pip install -qq --group docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
