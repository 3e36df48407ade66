# `make demo` and `make test` set up whatever is missing, then do their work.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/labelsmooth study --data mnist5k --model mlp --eps 0 0.05 0.1 --seeds 3 --out runs/demo

test: $(READY)
	$(BIN)/pytest -n 2

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/loss.py

# Rebuilt when the pins or the project's metadata change.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/pip || python3 -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check torch
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
