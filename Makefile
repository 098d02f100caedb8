# `make demo` and `make test` each work as the first command on a fresh clone.
# Choose an interpreter with `make test PYTHON=python3.12`.

VENV    ?= .venv
PY      := $(VENV)/bin/python
WORKERS ?= logical
PYTHON  ?=
WORKED  := -m pytest -n $(WORKERS) --maxprocesses 8
PYTEST  := $(WORKED) --dist loadfile --no-loadscope-reorder -p no:nbmake
# What holds compiled programs against the oracle and NumPy runs as a user's process compiles; the
# others' programs are compiled less well, in half of the time (tests/conftest.py).
AS_USERS := tests/test_oracle.py tests/test_blocks.py tests/test_search.py

# Compiled modules are written where Python is told not to: each of many processes reads them. What
# no process imports is not compiled at all, which took pip a third of its time.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(PY) -m pip install --quiet --no-compile -c constraints.txt

.PHONY: help demo test lint format types notebooks docs bench clean

help:
	@echo "make demo | test | lint | format | types | notebooks | docs | bench | clean"

demo: $(VENV)/.installed
	$(VENV)/bin/qsjax explore deepseek-v3 --gpus 64 --out results/demo

test: $(VENV)/.installed-test
	$(PY) $(PYTEST) $(AS_USERS:%=--ignore=%)
	XLA_FLAGS= $(PY) $(PYTEST) $(AS_USERS)

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(VENV)/.installed-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(VENV)/.installed-dev
	$(PY) -m mypy

# `--overwrite` keeps the outputs of the run: `make notebooks NBMAKE=--overwrite`.
notebooks: $(VENV)/.installed-dev
	@if ls notebooks/*.ipynb >/dev/null 2>&1; \
	then $(PY) $(WORKED) --nbmake --nbmake-timeout=600 $(NBMAKE) notebooks; \
	else echo "no notebooks"; fi

docs: $(VENV)/.installed-dev
	$(PY) -m sphinx -q -W --keep-going -j auto -b html docs build/docs

bench: $(VENV)/.installed-dev
	$(PY) -m benchmarks.run

clean:
	rm -rf $(VENV) build dist results/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find qsjax tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(create_venv)
	$(INSTALL) -e .
	@touch $@

# What `dev` installs serves the tests, too.
$(VENV)/.installed-test $(VENV)/.installed-dev: $(VENV)/.installed-%: pyproject.toml constraints.txt
	@$(create_venv)
	$(INSTALL) -e '.[$*]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed

# The first interpreter that is new enough; a named PYTHON is the only candidate.
define create_venv
if [ ! -x $(VENV)/bin/pip ]; then \
  for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
      echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV); exit; \
    fi; \
  done; \
  echo "qsjax needs Python 3.11 or newer: none found; name one with PYTHON=/path/to/python3" >&2; \
  exit 1; \
fi
endef
