# Each target makes what it needs: a virtual environment in .venv, with the packages of one extra of pyproject.toml at
# the versions of constraints.txt, again whenever one of the two files has changed.
#
# On Linux pip's usual torch brings CUDA's libraries, some gigabytes. The CPU build is enough for everything here. To
# get it, give pip PyTorch's CPU index before the first make, as PyTorch's "Get started" page shows it:
#     PIP_EXTRA_INDEX_URL=<that index> make demo
# pip then finds 2.13.0+cpu beside 2.13.0 and takes it. On macOS and Windows the usual build is the CPU one.

# PYTHON makes .venv, JOBS is the number of test processes (one thread each), ARGS goes to the program:
#     make demo ARGS=--help    make test ARGS="-k video"    make lab ARGS=--no-browser
PYTHON ?= python3
JOBS ?= 2
ARGS ?=

PY := .venv/bin/python
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo lab notebooks tables weights test test-fast lint format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## the app in the browser
	$(PY) demo_app.py $(ARGS)

lab: .venv/notebooks.stamp ## the notebooks in JupyterLab
	$(PY) -m jupyterlab --notebook-dir=notebooks $(ARGS)

notebooks: .venv/notebooks.stamp ## run the notebooks again and write them back clean
	$(PY) notebooks/refresh.py $(ARGS)

tables: .venv/demo.stamp ## evaluate what is shipped: docs/results; hours, less with ARGS="--clips 32 --trajectories 3"
	$(PY) benchmarks/tables.py digits $(ARGS)

weights: .venv/weights.stamp ## train what is shipped again: days on a CPU, less with ARGS="robot-hands --budget 0.1 --data FOLDER"
	$(PY) data_tools/train_weights.py $(ARGS)

test: .venv/test.stamp ## every test, with the notebooks and the app in Chromium
	$(PYTEST) --nbmake notebooks tests $(ARGS)

test-fast: .venv/test.stamp ## the tests that take seconds
	$(PYTEST) -m "not slow and not app" tests $(ARGS)

lint: .venv/lint.stamp ## ruff's checks
	$(PY) -m ruff check
	$(PY) -m ruff format --check

format: .venv/lint.stamp ## ruff's fixes and formatting
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

clean: ## remove the environment and the caches; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/%.stamp: pyproject.toml constraints.txt | .venv/made.stamp
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@

.venv/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "lgcvd needs Python 3.11 or newer and '$(PYTHON)' is not one: install it or name another with" \
	    "'make $(MAKECMDGOALS) PYTHON=python3.11'." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@
