# Two commands on a fresh machine: `make demo` and `make test`. `make help` lists the others.

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 test` names one.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

# One test process a core, but no more than this: they compile the same kernels.
TEST_WORKERS ?= 8
PYTEST_ARGS ?=

# Keeps the repository root off sys.path, where kernels/ would become importable a second time.
export PYTHONSAFEPATH = 1
# Idle OpenMP workers sleep instead of spinning on cores that other test processes need.
test: export OMP_WAIT_POLICY = passive

GROUPS ?= conv3x3 pointwise dense depthwise grouped one_axis three_axes training float64 bfloat16 \
	pooling linear tiny avx2

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check wheel-check docs bench bench-groups clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.with-demo ## install into .venv, then run the tour: a photograph, a trained network, a table
	$(BIN)/convforge demo

test: $(VENV)/.with-test ## install into .venv, then run every test
	$(BIN)/pytest -n auto --maxprocesses $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.with-dev ## format, lint, types, import rules, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

wheel-check: $(VENV)/.with-dev ## build sdist and wheel, install the wheel elsewhere, compare and run it
	.ci/wheel-check $(BIN)/python

docs: $(VENV)/.with-docs ## build the documentation, warnings as errors
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.with-test ## print the side-by-side tables (peers that are installed take part)
	$(BIN)/convforge bench foundation --json bench/results

bench-groups: $(VENV)/.with-test ## measure every group of layers, ten minutes each; then write the page
	for group in $(GROUPS); do $(BIN)/convforge bench $$group --json bench/results || exit; done
	$(BIN)/convforge bench scaling --json bench/results
	$(BIN)/convforge bench report

clean: ## remove .venv and everything that builds write
	rm -rf $(VENV) build dist docs/_build docs/_generated src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

# One stamp an extra: installs again only when pyproject.toml has changed.
$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	@echo "installing convforge[$*] into $(VENV) …"
	@$(PIP) install --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'convforge needs Python 3.11 or newer, and none was found on PATH;' \
		'name one: make PYTHON=/path/to/python3.12 …' >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "convforge needs Python 3.11 or newer; $(PYTHON) is" \
		"$$($(PYTHON) --version)" >&2; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV)
