# One verb per job. `make demo` and `make test` are all a newcomer needs; both set up .venv when it is missing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 ...` overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PYTEST := $(BIN)/pytest
# Where byte code may not be written, each of the hundreds of processes of the tests compiles anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test check bench kill-loop quick-kills power-cuts disk-faults soak recorded-ledger protos clean

help:
	@echo "make demo              three hospitals on this machine train, certify and rank a model (a minute)"
	@echo "make test              every check and every test"
	@echo "make check             lint, types, import floors and generated code only"
	@echo "make bench NAME=demo   figures as JSON lines (demo, round, finality, ledger, loaded, idle, start, step, audit, bundle, docker-cold, compose, images, growth, restart, join, ci)"
	@echo "make kill-loop COUNT=300   kill nodes under load again and again, and see that nothing is lost"
	@echo "make quick-kills COUNT=10000   kill one small process as it commits, again and again"
	@echo "make power-cuts COUNT=3000   open disks as power cuts may leave them"
	@echo "make disk-faults       more system calls that fail under a running node"
	@echo "make soak SEEDS=0..40000   more seeds of the simulator, on all cores"
	@echo "make recorded-ledger   record a ledger under the newest rules, for all releases to come (ledger/README.md)"
	@echo "make bad-networks SECONDS=3600   3, 4, 5 and 7 nodes on bad networks in turn, answers judged (root)"
	@echo "make fuzz SECONDS=60   every decoder, guided by coverage, so many seconds each (pip install atheris)"
	@echo "make model             the voting rules searched exhaustively (needs spin and gcc)"
	@echo "make protos            regenerate protos/tilth_protos after a change of a .proto file"
	@echo "make clean             remove .venv and caches"

demo: $(VENV)/.installed-node
	@$(BIN)/tilth demo $(ARGS)

test: $(VENV)/.installed-dev
	@$(BIN)/python -m tests $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q tests/protos

bench: $(VENV)/.installed-dev
	@test -n "$(NAME)" || { echo "Which one? make bench NAME=demo (or round, finality, ledger, loaded, idle, start, step, audit, bundle, docker-cold, compose, images, growth, restart, join, ci)"; exit 2; }
	@$(BIN)/python -m tests.benchmarks $(NAME)

kill-loop: $(VENV)/.installed-dev
	@$(BIN)/python tests/end_to_end/kill_loop.py --kills $(or $(COUNT),300) $(ARGS)

quick-kills: $(VENV)/.installed-dev
	@$(BIN)/python tests/end_to_end/quick_kills.py --kills $(or $(COUNT),10000) $(ARGS)

power-cuts: $(VENV)/.installed-dev
	@$(BIN)/python tests/end_to_end/power_cuts.py --images $(or $(COUNT),3000) $(ARGS)

disk-faults: $(VENV)/.installed-dev
	@MORE_FAULTS=1 $(PYTEST) -q tests/end_to_end/test_failing_disk.py

SEEDS ?= 0..40000
soak: $(VENV)/.installed-dev
	@$(BIN)/python tests/simulation/soak.py --seeds $(SEEDS) $(if $(STEPS),--steps $(STEPS)) $(if $(RULED),--ruled)

recorded-ledger: $(VENV)/.installed-dev
	@$(BIN)/python tests/ledger/record_ledger.py

SECONDS ?= 3600
bad-networks: $(VENV)/.installed-dev
	@for nodes in 3 4 5 7; do \
		$(BIN)/python tests/end_to_end/bad_networks.py --nodes $$nodes \
			--seconds $$(($(SECONDS) / 4)) --seed $(or $(SEED),1) || exit 1; done

fuzz: $(VENV)/.installed-dev
	@$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

model: $(VENV)/.installed-dev
	@$(BIN)/python tests/model/check.py $(ARGS)

protos: $(VENV)/.installed-dev
	$(BIN)/python protos/generate.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps remember what is installed: a change of pyproject.toml installs again, nothing else does.
$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing what Tilth and its tests need (about a minute, once) ..."
	@$(BIN)/python -m pip install --quiet -e '.[node,dev]'
	@touch $(VENV)/.installed-node $@

$(VENV)/.installed-node: pyproject.toml | $(BIN)/python
	@echo "Installing what Tilth needs (about a minute, once) ..."
	@$(BIN)/python -m pip install --quiet -e '.[node]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Tilth needs Python 3.11 or newer; none was found."; \
		echo "Debian, Ubuntu: sudo apt-get install python3 python3-venv    macOS: brew install python@3.12"; \
		echo "Or name one: make PYTHON=/path/to/python3.12 demo"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python cannot make virtual environments."; \
		echo "Debian, Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
