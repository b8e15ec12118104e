# Every target builds the environment it needs: `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
BIN := .venv/bin
TESTS := -m pytest -q -n 2 --dist worksteal

.PHONY: demo test test-all test-oldest test-portable fuzz fuzz-bytes check docs lock audit sbom clean

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/titans-ts demo --out demo

test: .venv/installed
	$(BIN)/python $(TESTS) -m "not slow" --durations=10 --durations-min=5

test-all: .venv/installed
	$(BIN)/python $(TESTS) --durations=25 --durations-min=5

# The oldest supported versions, in an environment of their own. Their deprecation warnings are no errors.
test-oldest:
	test -x .venv-oldest/bin/pip || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[dev]"
	.venv-oldest/bin/python $(TESTS) -m "not slow" -o filterwarnings=ignore::DeprecationWarning

# As two other x86-64 processors compute: the oldest one, without compiled kernels, and one with AVX2, with kernels
# compiled for x86-64-v2 and two threads (which do not spin while they wait). Float32 rounding matters most in these
# tests; those that train for seconds are left out. A test that fails here alone has too small a tolerance, or shows a
# mistake that other processors hide.
PORTABLE := tests/forecasting/test_gluonts.py tests/forecasting/test_stateful.py tests/forecasting/test_volume.py \
  tests/genomics/test_genome_tools.py tests/kernels/test_native.py \
  -m "not slow" -k "not anomalies and not motif and not insert and not falls and not evaluates and not thresholds"
V2 := sh -c 'exec cc "$$@" -march=x86-64-v2' cc
test-portable: .venv/installed
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 CC=none $(BIN)/python $(TESTS) $(PORTABLE)
	ATEN_CPU_CAPABILITY=avx2 TITANS_TS_TEST_THREADS=2 OMP_WAIT_POLICY=passive CC='$(subst ','\'',$(V2))' \
	  $(BIN)/python -m pytest -q $(PORTABLE)

# Many random inputs for every public entry; `make test` runs the same properties on a few fixed ones. The seed
# is printed: `make fuzz SEED=1` gives the same inputs again, `TIMES=10` fewer of them.
SEED := $(shell date +%s)
TIMES = 30
fuzz: .venv/installed
	TITANS_TS_FUZZ=$(TIMES) $(BIN)/python -m pytest -q tests/fuzz --hypothesis-seed=$(SEED) --hypothesis-show-statistics \
	  --durations=0 || { echo "seed $(SEED)"; exit 1; }

# What reads bytes, a minute of each file format; guided by coverage if atheris is installed
# (.venv/bin/pip install atheris: Linux, Python 3.11 to 3.13). SECONDS=600 runs ten minutes of each.
SECONDS = 60
fuzz-bytes: .venv/installed
	$(BIN)/python -m tests.fuzz.fuzz_bytes --seconds $(SECONDS)

# The supply chain, with tools in an environment of their own (RELEASING.md): hashes of every dependency,
# known vulnerabilities of what is locked, and a bill of materials of what is installed.
.venv-release/installed:
	test -x .venv-release/bin/pip || $(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet uv pip-audit cyclonedx-bom
	touch $@

lock: .venv-release/installed
	.venv-release/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes --extra all \
	  --constraints constraints.txt --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

audit: .venv-release/installed .venv/installed
	.venv-release/bin/pip-audit --skip-editable --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

sbom: .venv-release/installed .venv/installed
	mkdir -p dist
	.venv-release/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/sbom.cdx.json $(BIN)/python

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site in site/, without a network once its tools are installed; a warning is an error.
.venv/docs-installed: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

docs: .venv/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-oldest .venv-release build dist *.egg-info demo site
