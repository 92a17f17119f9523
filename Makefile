# The two commands of the README are `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-all clean

demo: $(VENV)/.installed  ## Compare models on the digits and write an HTML report.
	$(BIN)/likely compare digits --models gaussian,gmm,made,nsf,realnvp,vae,gan --minutes 0.35 --seeds 3 --out report
	@echo "The report is in report/index.html"

test: $(VENV)/.tested  ## Lint, type check and the quick tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

test-all: $(VENV)/.tested  ## All tests, the slow ones too.
	$(BIN)/pytest -n 2 -m ""

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.tested: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) report dist
