# The two commands of the README are `make demo` and `make test`; `make help` lists all.
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# `make bench ONLY=flows DATA=../shared/data`: see benchmarks/README.md.
BENCH  ?= .venv-bench
JAX    ?= .venv-jax
DATA   ?= ../shared/data
PEERS  := zuko nflows normflows torchflows pomegranate pythae torchebm diffusers sbi
PINNED := --constraint constraints.txt --constraint benchmarks/constraints.txt

.PHONY: help demo test test-all docs bench clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## Compare models on the digits and write an HTML report.
	@echo "Seven models, two fits each: under three minutes. Open report/index.html after the first of them."
	$(BIN)/likely compare digits --models gaussian,gmm,made,nsf,vae,gan --minutes 0.15 --seeds 2 --out report

test: $(VENV)/.tested  ## Lint, type check and the quick tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2

test-all: $(VENV)/.tested  ## All tests, the slow ones too.
	$(BIN)/pytest -n 2 -m ""

docs: $(VENV)/.documented  ## Run the examples and write the documentation: docs/_build/html/index.html.
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

bench: $(BENCH)/.installed $(JAX)/.installed  ## Compare speed and quality with other libraries: benchmarks/RESULTS.md.
	$(BENCH)/bin/python benchmarks/run.py --only "$(ONLY)" --data $(DATA) --jax $(JAX)/bin/python

# A library that cannot be installed is a gap in the tables. QuCumber asks for a torch that is too old.
$(BENCH)/.installed: pyproject.toml constraints.txt benchmarks/constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet $(PINNED) --editable .
	for peer in $(PEERS) "--no-deps qucumber"; do \
		$(BENCH)/bin/python -m pip install --quiet $(PINNED) $$peer || echo "$$peer: not installed (to try again, remove $(BENCH))"; \
	done
	@touch $@

$(JAX)/.installed: constraints.txt benchmarks/constraints.txt
	$(PYTHON) -m venv $(JAX)
	$(JAX)/bin/python -m pip install --quiet $(PINNED) flowjax || echo "flowjax: not installed (to try again, remove $(JAX))"
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.tested: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@ $(VENV)/.installed

$(VENV)/.documented: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@ $(VENV)/.installed

clean:  ## Remove environments, reports, documentation and packages.
	rm -rf $(VENV) $(BENCH) $(JAX) report docs/_build docs/generated dist
