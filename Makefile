# make setup | bench | test | lint | again | wheel | pictures: everything happens in .venv, with the versions pinned in constraints.txt.

# The first of these that runs and is 3.11 to 3.13; make PYTHON=... takes another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; \
  done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup bench test lint again wheel pictures

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "ADM-Bench needs Python 3.11 to 3.13, and none is on the path: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv || { \
	  echo "no ensurepip here (Debian keeps it in python3-venv): taking pip from $(PYTHON)"; \
	  $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

bench: setup
	$(BIN)/adm run bench
	$(BIN)/adm report bench
	$(BIN)/adm report bench --table controls
	$(BIN)/adm samples bench
	$(BIN)/adm report bench --out leaderboard

# Spread over the cores, each process taking neighbouring tests, which share what they set up. Benchmarks run alone:
# pytest tests/benchmarks --benchmark-only. Byte code is written even where the shell forbids it: tests start processes.
test: setup
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One committed record each of three tasks, made again to the bit, where that is promised (docs/reproducing.md).
again: setup
	$(BIN)/python -m tests.made_again

wheel: setup
	.ci/wheel

# The pictures of README and docs, from committed records; the last two are of cells that are trained first, in two minutes.
pictures: setup
	$(BIN)/python docs/pictures.py
	$(BIN)/adm run docs/pictures/agreement.yaml --store runs/pictures
	$(BIN)/adm insight agreement --store runs/pictures --pictures 3 --out runs/pictures/insight
	cp runs/pictures/insight/examples.png docs/pictures/insight.png
	$(BIN)/adm run adm-alone --store runs/pictures --only seed=100 --only 'label=form H'
	$(BIN)/adm insight adm-alone --store runs/pictures --pictures 3 --out runs/pictures/weights
	cp runs/pictures/weights/examples.png docs/pictures/adm-weights.png
