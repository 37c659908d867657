# make setup | bench | test | lint: everything happens in .venv, with the versions pinned in constraints.txt.

PYTHON ?= $(shell for v in 3.13 3.12 3.11; do command -v python$$v && break; done || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup bench test lint

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(0 if (3, 11) <= v < (3, 14) else f"ADM-Bench needs Python 3.11 to 3.13; this is {v.major}.{v.minor}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

bench: setup
	$(BIN)/adm run quick
	$(BIN)/adm report quick
	$(BIN)/adm report quick --out leaderboard

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
