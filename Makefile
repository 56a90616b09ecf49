# Every target sets up what it needs; after the first time that takes no time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
RUNS ?= runs
ARGS ?=
SWEEP ?= first_look

.DEFAULT_GOAL := help
.PHONY: help setup train sweep report test lint docs tensorboard evidence clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## build the environment (.venv)

train: setup ## train PPO with ReDo on the default benchmark; ARGS="--seed 1" adds flags
	$(BIN)/python train.py --agent ppo --reset redo $(ARGS)

sweep: setup ## train four arms with four seeds each, a trial; SWEEP=leaderboard is another, ARGS="--status" adds flags
	$(BIN)/python sweep.py $(SWEEP) $(ARGS)

report: setup ## compare all runs: report/report.html and figures; ARGS="--pdf" adds flags
	$(BIN)/python report.py $(RUNS) $(ARGS)

test: $(VENV)/.installed-dev ## run the whole test suite; ARGS="-k redo" selects
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs ## build the documentation: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

tensorboard: setup ## show all runs in TensorBoard
	$(BIN)/tensorboard --logdir $(RUNS)

evidence: setup ## train the plain agent, the fresh one and ReDo, three seeds each, and print a table
	$(BIN)/python bench/cartpole_permuted.py $(ARGS)

clean: ## remove the environment; runs stay
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Perennial needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: constraints.txt pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV), once; this takes a few minutes."
	@$(INSTALL) -e '.[report]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Adding what tests and linters need, once."
	@$(INSTALL) -e '.[dev,box2d,report,sweep]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Adding what the documentation needs, once."
	@$(INSTALL) -e '.[docs]'
	@touch $@
