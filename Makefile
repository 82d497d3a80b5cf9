# Every target sets itself up: a virtual environment in .venv, pinned by constraints.txt, nothing global.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check e2e faults hostile slow fuzz fuzz-long bench screens setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gptbench needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/gptbench demo

# The one command that checks a change: style, types, arrows, tests.
test: $(READY) check
	$(BIN)/python -m pytest -n 2 -m "not e2e and not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The real program in a real terminal, over SSH and in a browser; fails plainly where one of them is missing.
e2e: $(READY)
	@for each in tmux:tmux ssh:openssh-client sshd:openssh-server chromium:chromium; do \
		PATH="$$PATH:/usr/sbin" command -v "$${each%:*}" >/dev/null || \
			{ echo "make e2e needs $${each%:*}: apt-get install $${each#*:}" >&2; exit 1; }; \
	done
	$(BIN)/python -m pytest -m e2e tests/e2e

# The real programs under faults, and how many were survived: the engine killed at many moments, disks filled …
faults: $(READY)
	$(BIN)/python -m pytest -n 3 --least-faults=680 tests/faults

# Hostile text by every door, and a table of the sinks it reached without effect.
hostile: $(READY)
	@command -v chromium >/dev/null || { echo "make hostile needs chromium: apt-get install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest -n 4 --least-hostile=1300 tests/hostile

# What else takes minutes.
slow: $(READY)
	$(BIN)/python -m pytest -m slow --ignore=tests/faults --ignore=tests/hostile

# Hostile bytes for as long as it takes: FUZZ examples of each test (the short form runs with the others).
FUZZ ?= 20000

fuzz: $(READY)
	GPTBENCH_FUZZ=$(FUZZ) $(BIN)/python -m pytest --timeout=7200 tests/fuzz

# Guided by coverage (Atheris): so many seconds a target; SEEDS is a folder of logs. What it finds lies in .fuzz/found.
FUZZ_SECONDS ?= 600

fuzz-long: $(READY)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.long --seconds $(FUZZ_SECONDS) $(if $(SEEDS),--seeds $(SEEDS))

# The README's pictures, from a demo run.
screens: $(READY)
	$(BIN)/python docs/screens/make.py

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

# Sketches on Daft and a local Ray instance; an environment of its own, since Daft holds pyarrow below 26.
CLUSTER := .venv-cluster

cluster: $(CLUSTER)/.ready
	PYTHONPATH=. $(CLUSTER)/bin/python -m pytest -p no:cacheprovider tests/cluster

$(CLUSTER)/.ready: constraints-cluster.txt
	test -x $(CLUSTER)/bin/python || $(PYTHON) -m venv $(CLUSTER)
	$(CLUSTER)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-cluster.txt
	@touch $@

clean:
	rm -rf $(VENV) $(CLUSTER) build dist *.egg-info
