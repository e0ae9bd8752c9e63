# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV ?= .venv
# Further arguments of pip.
PIP_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SAMPLE := src/syllablelm/bundled/sample.flac
# Threads that wait actively slow each other down on a machine that does other work too.
export OMP_WAIT_POLICY := passive

.PHONY: demo test test-slow wheel docs reproduce-mini kill fuzz bench bench-compare test-gpu bench-gpu lint format clean help

help:
	@echo "make demo       units, a picture, a resynthesis and a continuation of the bundled recording, in demo/"
	@echo "make test       the quick tests        make test-slow  the slow ones"
	@echo "make wheel      the package, built, installed and used from elsewhere"
	@echo "make docs       the documentation site, strictly checked, in site/, and its notebooks"
	@echo "make reproduce-mini   every command of docs/reproduce.md, in miniature"
	@echo "make bench      timings and memory     make lint       ruff, pyright, layers"
	@echo "make kill N=60  long commands, killed N times at random moments and run again"
	@echo "make fuzz       N=5000 damaged files for every reader, from SEED=0"
	@echo "make test-gpu   the tests on a GPU     make bench-gpu  these and timings, in gpu.json: eight minutes"
	@echo "make bench-compare BASE=COMMIT   how many times as fast the working tree is as a commit"
	@echo "make format     ruff format            make clean      remove what these made"

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[all,dev,docs]"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --no-deps resemblyzer
	touch $@

# $(call stage,NAME,COMMAND) runs a command and says how long it took, the loading of models included.
define stage
@echo "== $(1)"
@TIMEFORMAT='   $(1) took %R s'; time $(2)
endef

# `time` and its format are bash's own.
demo: SHELL := bash
demo: $(STAMP)
	mkdir -p demo
	$(call stage,units,$(BIN)/syllablelm tokenize $(SAMPLE) --out demo/units.jsonl)
	$(call stage,picture,$(BIN)/syllablelm plot $(SAMPLE) --alignment $(basename $(SAMPLE)).alignments.jsonl \
		--seconds 60 --out demo/sample.png)
	$(call stage,table,$(BIN)/python examples/print_units.py $(SAMPLE))
	$(call stage,resynthesis,$(BIN)/syllablelm resynthesize $(SAMPLE) --out demo/resynthesis --overwrite)
	$(call stage,continuation,$(BIN)/syllablelm continue $(SAMPLE) --prompt-seconds 3 --seconds 10 \
		--out demo/continuation --overwrite)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not gpu and not kill"

# The built package, as its users install it.
wheel: $(STAMP)
	$(BIN)/python -m pytest -q tests/e2e/test_wheel.py

# The theme announces its successor; its advertisement is switched off.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q tests/e2e/test_notebooks.py

# Every command of docs/reproduce.md, in its order: the recipes and verbs of both papers on a few seconds of noise.
reproduce-mini: $(STAMP)
	$(BIN)/python -m pytest -q --durations 5 tests/e2e/test_reproduce.py

# Commands killed at random moments and run again; N kills, seeded.
kill: N = 60
kill: $(STAMP)
	$(BIN)/python -m pytest -s tests/kill --kills $(N)

# Damaged files for every reader; N cases, the first with the seed SEED.
fuzz: N = 5000
fuzz: SEED = 0
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/run.py --cases $(N) --seed $(SEED)

# BASE and NEW are commits (NEW: by default the working tree), BENCH and OPTIONS benchmarks and what they are given.
bench-compare: BASE = HEAD
bench-compare: $(STAMP)
	$(BIN)/python benchmarks/compare.py $(BASE) $(NEW) $(if $(BENCH),--bench $(BENCH)) $(if $(OPTIONS),-- $(OPTIONS))

bench: $(STAMP)
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

# On a machine with a GPU.
test-gpu: $(STAMP)
	$(BIN)/python -m pytest -q -m gpu

bench-gpu: $(STAMP)
	$(BIN)/python benchmarks/gpu_kit.py --json gpu.json

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pyright -p pyright-strict.json
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf demo dist build site .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
