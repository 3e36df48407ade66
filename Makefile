# Each target sets up whatever is missing, then does its work.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check

# what the rest stands on: the tests beside its modules, but for what torch.compile needs minutes for
CORE := $(addprefix tests/test_,smoothing.py row_stats.py theory.py provenance.py) \
	$(addprefix tests/losses/test_,cross_entropy_peers.py penalties.py options.py) tests/backends/test_cpu_few_classes.py

.PHONY: demo test test-long test-alone check lint bench sanitize clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/labelsmooth study --data mnist5k --model mlp --eps 0 0.1 --seeds 3 --student mlp800 --temperatures 2 --out runs/demo

test: $(READY)
	tools/chromium
	$(BIN)/pytest -n 2 --dist worksteal -m "not long"

# Installations, several processes, and studies and machines of a cluster, killed over and over.
test-long: $(READY)
	$(BIN)/pytest -m long

# Each file by itself, one after the other.
test-alone: $(READY)
	tools/chromium
	tools/test-alone

check: lint
	$(BIN)/pytest -n 2 --dist worksteal $(CORE)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

bench: $(READY)
	mkdir -p benchmarks/results
	$(BIN)/labelsmooth bench --json benchmarks/results/cpu.json --markdown docs/benchmarks.md

# The kernels under AddressSanitizer and UBSan, whose runtime has to be in a process before anything else.
CALLS := 5000
sanitize: $(READY)
	export PATH="$(CURDIR)/$(BIN):$$PATH"; \
	cmake -S . -B build/sanitize -G Ninja -DLABELSMOOTH_SANITIZE=ON && cmake --build build/sanitize
	export LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)"; \
	ASAN_OPTIONS=detect_leaks=0 OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/fuzz_kernels.py \
	--library build/sanitize/labelsmooth_cpu.so --sanitized --calls $(CALLS)

# Rebuilt when the pins, the project's metadata or the C++ sources change. Without build isolation the pins hold for
# what builds the library too; where there is a compiler, a library that does not build is an error.
$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	test -x $(BIN)/pip || python3 -m venv --clear $(VENV)
	$(PIP_INSTALL) torch cmake ninja scikit-build-core
	if tools/debian-packages; then export LABELSMOOTH_REQUIRE_CPU=1; fi; \
	$(PIP_INSTALL) --no-build-isolation --config-settings=build-dir=build/editable --editable '.[dev]'
	$(PIP_INSTALL) --no-deps fastai
	$(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/timm timm torchvision # see tests/shared/timm_apart.py
	touch $@

clean:
	rm -rf $(VENV)
