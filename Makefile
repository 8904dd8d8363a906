# Everything a newcomer needs. Works with GNU make 3.81 and later, on Linux and macOS.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
UV      := 0.13.8

.DEFAULT_GOAL := run
.PHONY: run ui serve replay test lint bench clean install

run: $(STAMP)  ## Materialize the whole graph with every check
	@$(BIN)/groundwork run $(ARGS)

ui: $(STAMP)  ## Serve the UI on http://127.0.0.1:3000
	@$(BIN)/groundwork ui $(ARGS)

serve: $(STAMP)  ## Serve features on http://127.0.0.1:6567
	@$(BIN)/groundwork serve $(ARGS)

replay: $(STAMP)  ## Walk the clock through recorded history, retraining as the triggers decide
	@$(BIN)/groundwork replay $(ARGS)

test: $(STAMP)  ## Run every test
	@$(BIN)/pytest $(ARGS)

lint: $(STAMP)  ## Check style, types and definitions; needs no network
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/sqlfluff lint dbt_project/models
	@DAGSTER_DISABLE_TELEMETRY=yes $(BIN)/dagster definitions validate --log-level warning
	@DAGSTER_DISABLE_TELEMETRY=yes VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check defs

bench: $(STAMP)  ## Measure what README's performance table says
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Delete all data, caches and the virtual environment
	rm -rf data $(VENV) .feast .pytest_cache .mypy_cache .ruff_cache .hypothesis .logs_queue *.egg-info build
	find orchestration tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@set -e; python=""; \
	for candidate in python3 python3.13 python3.12 python3.11; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	    python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Groundwork needs Python 3.11, 3.12 or 3.13; found $$(python3 --version 2>&1 || true)."; exit 1; fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "Making $(VENV) with $$($$python --version)"; \
	  $$python -m venv $(VENV) || { echo "The venv module is missing: on Debian, apt-get install python3-venv."; exit 1; }; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV)
	@echo "Installing the locked dependencies"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $(STAMP)
