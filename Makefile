# What a newcomer guesses. Every target makes its own environment first: Python 3.10 or later is all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint docs bench peers gpu mutants clean

demo: $(VENV)/demo.done  ## train, attack and picture a small network; results in demo/
	$(BIN)/advlib demo --out demo

test: $(VENV)/test.done  ## the tests
	$(BIN)/python -m pytest -n auto

test-all: $(VENV)/test.done  ## the slow tests too
	$(BIN)/python -m pytest -n auto -m "not gpu"

lint: $(VENV)/test.done  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/docs.done  ## the documentation, in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

mutants: $(VENV)/test.done  ## break the library in many small ways; every break must fail a test
	$(BIN)/python tests/mutants.py

bench peers .venv-bench/peers.done: VENV = .venv-bench
bench: .venv-bench/peers.done  ## time the attacks beside other libraries', installed in an environment of their own
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/jsma.py
	$(BIN)/python benchmarks/pgd_strength.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/defences.py

peers: .venv-bench/peers.done  ## the tests beside other libraries: every row of the page on migration
	$(BIN)/python -m pytest -m peers tests/test_migration.py tests/testing

.venv-bench/peers.done: pyproject.toml constraints.txt benchmarks/requirements.txt benchmarks/peers.txt
	$(MAKE) VENV=.venv-bench .venv-bench/bench.done
	$(PIP) -r benchmarks/requirements.txt
	$(PIP) --no-deps -r benchmarks/peers.txt
	touch $@

gpu:  ## on a machine with a CUDA device and torch: the tests and timings there, with its own Python
	PYTHONPATH=. $(PYTHON) -m pytest -m gpu tests/test_gpu.py tests/acceleration tests/kernels
	PYTHONPATH=. $(PYTHON) benchmarks/kernels.py --device cuda
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/%.done: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[$*]"
	touch $@

clean:
	rm -rf .venv .venv-bench demo docs/_build
