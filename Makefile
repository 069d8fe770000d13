# make demo, make test, make lint: each sets up .venv first, once; after that they need no network.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
DETECT := $(PY) -m detect
# One thread per test process, one process per core.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 8
INSTALLED := $(VENV)/.installed
export MPLBACKEND := Agg

.PHONY: help install demo test test-all lint format constraints clean

help:
	@echo "make demo         sample data, a detector trained on it, its report and a drawn picture; a few minutes"
	@echo "make test         the tests, without those marked slow; some minutes"
	@echo "make test-all     all tests"
	@echo "make lint         ruff and mypy"
	@echo "make format       let ruff format the code"
	@echo "make constraints  renew the pinned versions"
	@echo "make clean        remove what make demo wrote"

install: $(INSTALLED)

# The stamp stands for a finished installation and is renewed when the requirements change.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), too old. Name a Python 3.10 or newer: make PYTHON=/path/to/python3.12"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) can't make environments. On Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(INSTALLED)
	rm -rf data/demo runs/demo
	$(DETECT) sample --out data/demo/steel --images 300 --seed 0
	$(DETECT) convert data/demo/steel --out data/demo --split train=1-40,val=41-50
	$(DETECT) train configs/demo.yaml
	$(DETECT) evaluate runs/demo
	$(DETECT) infer data/demo/steel/IMAGES/inclusion_41.bmp --draw --weights runs/demo --out runs/demo/detections
	@$(PY) tools/demo_summary.py runs/demo

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-all: $(INSTALLED)
	$(PYTEST)

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict detect/

format: $(INSTALLED)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# The newest versions that fit setup.cfg together, for every Python from 3.10 on and every system at once.
constraints: $(INSTALLED)
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	@{ echo "# Versions that are tested together; a line may hold for some Pythons or systems only, as its marker says."; \
	   echo "# Renewed by 'make constraints'; then run 'make lint test demo' before committing."; } > constraints.txt.new
	$(PY) -m uv pip compile --quiet --universal --python $(PY) --python-version 3.10 --no-python-downloads \
	  --all-extras --no-header --no-annotate --no-emit-index-url --no-emit-find-links setup.cfg >> constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:
	rm -rf data/demo runs/demo
