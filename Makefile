# Everything runs from .venv, which `make setup` builds from pyproject.toml with the versions of constraints.txt.
# PYTHON chooses the interpreter, PIP_ARGS goes to pip (e.g. an index with the torch build that you want), CHECKS
# (core or all) to `make verify`.

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
CHECKS ?= core
VERSIONS ?= 4.57.6 5.5.4 5.23.0

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/setup-stamp
PACKAGES := $(filter-out generated,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))
TYPED := build/types

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types emit-check verify record verify-versions metamorphic mutants check bench corpus matrix clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv with everything pinned (again only if pyproject.toml or constraints.txt changed)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'fusegen needs Python 3.11 or newer: make PYTHON=python3.11 ...' >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory new-venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[runtime,dev]'
	@touch $@

# Some systems ship Python without ensurepip, where venv fails: virtualenv then does the same.
.PHONY: new-venv
new-venv:
	$(PYTHON) -m venv --clear $(VENV) || { \
		$(PYTHON) -m pip install --disable-pip-version-check --quiet --target build/virtualenv virtualenv && \
		PYTHONPATH=build/virtualenv $(PYTHON) -m virtualenv --quiet --clear $(VENV); }

run: $(STAMP) ## the main job: scan the installed transformers, then generate into build/generated
	$(BIN)/fusegen scan
	$(BIN)/fusegen emit --out build/generated --force

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP) ## ruff: rules and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy names modules after folders, and this checkout may have any name: show it the packages below `fusegen`.
types: $(STAMP) ## mypy on the package
	@rm -rf $(TYPED) && mkdir -p $(TYPED)/fusegen
	@for part in __init__.py __main__.py py.typed $(PACKAGES); do ln -s "$(CURDIR)/$$part" "$(TYPED)/fusegen/$$part"; done
	cd $(TYPED) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p fusegen

emit-check: $(STAMP) ## are the generated files what would be generated now?
	$(BIN)/fusegen emit --check

verify: $(STAMP) ## every generated forward against its original, on tiny models (CHECKS=all for the whole set)
	$(BIN)/fusegen verify --checks $(CHECKS)

record: $(STAMP) ## every check of every forward; the verdicts go into generated/, their count into README.md
	$(BIN)/fusegen verify --checks all --record
	$(BIN)/python benchmarks/verified_count.py --readme

verify-versions: $(STAMP) ## emit and verify for several releases (VERSIONS and the installed one), write docs/verified.md
	$(BIN)/python benchmarks/verify_versions.py --checks $(CHECKS) --pip-args='$(PIP_ARGS)' $(VERSIONS)

metamorphic: $(STAMP) ## 100,000 rewritten forwards, each as it is and as it is emitted; the figure goes into docs/reliability.md
	$(BIN)/python benchmarks/metamorphic.py --count 100000 --record

mutants: $(STAMP) ## one-line edits over codegen/ against the fast tests; the score goes into docs/reliability.md
	$(BIN)/python benchmarks/mutants.py --count 300 --record

check: test lint types emit-check ## everything that has to pass: test, lint, types and emit-check

bench: $(STAMP) ## time and memory of fusegen scan, emit and diff
	$(BIN)/python benchmarks/scan.py
	$(BIN)/python benchmarks/emit.py
	$(BIN)/python benchmarks/diff.py

corpus: $(STAMP) ## every file of the standard library and seven packages through scan, emit and diff: no crash
	$(BIN)/python benchmarks/corpus.py

matrix: $(STAMP) ## scan every minor release of transformers from 4.56 on, write docs/coverage.md
	$(BIN)/python benchmarks/matrix.py

clean: ## remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
