# Parasol. `make run` and `make test` are all that a newcomer needs; `make` alone lists the rest.
.DEFAULT_GOAL := help
.PHONY: help run test test-long drill check bench bench-growth lock clean venv

PORT ?= 8080
WORKERS ?= 2
PROCESSES ?= 2
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
UV_COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

run: venv  ## one partner's whole journey, then stay up (ONCE=1 ends with the journey's status; PORT=8080 WORKERS=2)
	@$(BIN)/parasol run $(if $(filter-out 0,$(ONCE)),--once) --port $(PORT) --workers $(WORKERS)

test: check  ## format, lint, types, import contracts, all tests, in two processes (PROCESSES=0: in this one)
	@$(BIN)/pytest -n $(PROCESSES) --max-worker-restart 0

test-long: check  ## long histories and drills, which `make test` leaves out; some minutes
	@$(BIN)/pytest -m long -o faulthandler_timeout=1800 -o run_timeout=10800

drill: venv  ## faults under load, audited; writes docs/reliability.md (a quarter of an hour; NAME="PostgreSQL frozen": one)
	@$(BIN)/python -m tests.drills $(if $(NAME),"$(NAME)")

check: venv  ## the same without the tests: seconds, before every commit
	@$(BIN)/ruff format --check --quiet . || { echo "Run \`$(BIN)/ruff format .\`"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

bench: venv  ## the gateway beside its peers, as ratios
	@$(BIN)/python -m bench.run

bench-growth: venv  ## every curve of what grows (CURVES="growth=1000000,10000000 partners"; the largest needs 40 GB)
	@$(BIN)/python -m bench.curves $(CURVES)

lock:  ## both lock files from pyproject.toml; the versions in them stay unless UPGRADE=1
	@command -v uv >/dev/null || { echo "Locking needs uv: \`pipx install uv\`"; exit 1; }
	@$(UV_COMPILE) --all-extras $(if $(UPGRADE),--upgrade) -o requirements.lock
	@$(UV_COMPILE) -c requirements.lock -o requirements.runtime.lock

clean:  ## everything that was made here: .venv, .parasol, caches
	@rm -rf $(VENV) .parasol .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

venv: $(INSTALLED)

# Runs when a file is newer, installs only when the lock's content is another.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Parasol needs Python 3.11 or newer: \`apt install python3 python3-venv\`, or name one with PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "python3-venv is missing: \`apt install python3-venv\` (as root), then run this again"; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@cmp -s requirements.lock $(VENV)/requirements.lock || { \
		echo "Installing what requirements.lock names into $(VENV) (once, about a minute)"; \
		$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock && cp requirements.lock $(VENV)/; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@
