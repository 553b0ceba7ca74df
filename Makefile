# make run | test | check | soak | bench | docs | clean      (make setup CUDA=1: the CUDA build of PyTorch)
#
# PYTHON=python3.12        the Python that .venv is made with (3.11 or newer)
# CUDA=1                   take the index's own build of PyTorch instead of the CPU build
# TORCH_INDEX=URL          take PyTorch from another package index (for a CPU or CUDA build where yours has none)
# JOBS=2                   test processes;   ARGS="..." goes to dcase-seld run or pytest
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGS ?=
RECIPE ?= recipes/quickstart.yaml
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
.DEFAULT_GOAL := help
SEED ?= 0
N ?= 20000
KILLS ?= 60
.PHONY: help setup run test check soak bench docs clean distclean

help:
	@sed -n '1,6s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.package

run: $(VENV)/.package
	$(BIN)/dcase-seld run $(RECIPE) $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy dcase_seld
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(ARGS)

# Damaged inputs and killed runs, for hours; broken off, the same command goes on (soak/progress.json).
soak: $(VENV)/.test
	nice $(BIN)/python tests/faults/soak.py --seed $(SEED) --inputs $(N) --kills $(KILLS)

bench: $(VENV)/.test
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: $(VENV)/.docs
	$(BIN)/python docs/make_reference.py
	$(BIN)/dcase-seld schema recipes/recipe.schema.json
	$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html is written"

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

distclean: clean
	rm -rf $(VENV)

# A stamp file says that a set is installed, so that a second `make run` installs nothing.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv or ensurepip (on Debian: the package python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.made constraints.txt
ifneq ($(TORCH_INDEX),)
	$(PIP) install --index-url $(TORCH_INDEX) "$(TORCH)"
else ifeq ($(CUDA),1)
	$(PIP) install "$(TORCH)"
else
	@echo "installing the CPU build of $(TORCH) (CUDA=1 takes the CUDA build)"
	@$(PIP) install --quiet "$(TORCH)+cpu" 2>/dev/null || \
	  { echo "this package index has no +cpu build: taking its own"; $(PIP) install "$(TORCH)"; }
endif
	@touch $@

$(VENV)/.package: $(VENV)/.torch setup.cfg pyproject.toml constraints.txt
	$(PIP) install --quiet -e . -c constraints.txt
	@touch $@

$(VENV)/.test: $(VENV)/.package
	$(PIP) install --quiet -e ".[test]" -c constraints.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) install --quiet -e ".[docs]" -c constraints.txt
	@touch $@
