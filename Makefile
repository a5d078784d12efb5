# The README's two commands are `make demo` and `make test`; each sets up all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*)
RUN := runs/demo

.PHONY: demo test fuzz install bench bench-compare bench-publish clean

demo: $(VENV)/.installed
	$(BIN)/cryobench run --method cryogan --scenario snr-20 --budget 2m --out $(RUN)

# a machine whose tests are to be complete also has RELION (Debian package `relion`) and Chromium; see CONTRIBUTING.md
test: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -q

# ten thousand damaged and invented files for each reader of other programs' files, others each time
fuzz: $(VENV)/.installed-test
	CRYOBENCH_FUZZ=10000 $(BIN)/pytest -q -n 2 tests/fuzz

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cryobench needs Python 3.11 or later; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dask]' $(addprefix -e ,$(PLUGINS))
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,astra,bench,dask,figures]'
	touch $@

# every benchmark once, in this very environment: are they alive, and how fast roughly
bench: $(VENV)/.installed-test
	cd benchmarks && ../$(BIN)/asv machine --yes >/dev/null
	cd benchmarks && ../$(BIN)/asv run --quick --show-stderr --python=same --launch-method spawn

# make bench-compare BASE=main
BASE ?= HEAD~1
bench-compare: $(VENV)/.installed-test
	cd benchmarks && ../$(BIN)/asv machine --yes >/dev/null
	cd benchmarks && ../$(BIN)/asv continuous --show-stderr $(BASE) HEAD

bench-publish: $(VENV)/.installed-test
	cd benchmarks && ../$(BIN)/asv publish

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/.asv build dist
