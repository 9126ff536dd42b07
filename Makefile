# What a user and a contributor type. `make` alone lists it.
#
# Everything is installed into .venv and nowhere else, so a Python that its system manages
# (PEP 668) is as good as any. The stamps in .venv remember what is installed; nothing is
# installed again until its list changes.

PYTHON ?= python3
UV ?= uv
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
# Makes `python -m rabbitproof`, and `rabbitproof`, work in the virtual environment, without a build.
LINK := $(BIN)/python -c 'import pathlib, sysconfig; \
	pathlib.Path(sysconfig.get_path("purelib"), "rabbitproof.pth").write_text(str(pathlib.Path("src").resolve()))' \
	&& printf '\#!/bin/sh\nexec "$$(dirname "$$0")/python" -m rabbitproof "$$@"\n' > $(BIN)/rabbitproof \
	&& chmod +x $(BIN)/rabbitproof
ifeq ($(OS),Windows_NT)
LINK += && printf '@"%%~dp0python.exe" -m rabbitproof %%*\r\n' > $(BIN)/rabbitproof.cmd
endif
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	--custom-compile-command "make lock" pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all check bare bare-all bench bench-verify kills fuzz releases routing pictures table lock clean

help:  ## list these commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime  ## prove with 10,000 messages that a private RabbitMQ loses none
	@echo "Starting a private RabbitMQ, sending 10,000 messages through it, and counting each of them."
	@$(BIN)/python -m rabbitproof prove
	@echo
	@echo "Where to go next:"
	@echo "  $(BIN)/python -m rabbitproof broker up       a private RabbitMQ on localhost:5672"
	@echo "  $(BIN)/python src/producer.py --durable      10,000 messages into it"
	@echo "  $(BIN)/python src/consumer.py --expect 10000 and out again; then kill -9 something"
	@echo "  README.md                                    says the rest"

test: $(VENV)/.dev  ## run the tests, four at a time, but for those that take long
	@$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev  ## run those that take long
	@$(BIN)/python -m pytest -n 4 --dist worksteal -m slow

test-all: $(VENV)/.dev  ## run every test, the long ones too
	@$(BIN)/python -m pytest -n 4 --dist worksteal

check: $(VENV)/.dev  ## check style, types, imports and pinned versions
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy
	@$(BIN)/python -m pytest -q tests/unit/test_requirements.py tests/unit/test_imports.py

bare: $(VENV)/.python  ## make demo and make test on a machine that has nothing (as root)
	@$(BIN)/python tests/outside/bare.py 'make demo' 'make demo' 'make test'

bare-all: $(VENV)/.python  ## the same, and then README's step by step, before a release
	@$(BIN)/python tests/outside/bare.py --readme 'make demo' 'make demo' 'make test'

bench: $(VENV)/.dev  ## compare with the wire ceiling and other clients (twenty minutes; BENCH=--quick: one)
	@$(BIN)/python -m rabbitproof bench $(BENCH)

bench-verify: $(VENV)/.dev  ## time verify over the ledgers of ten million messages (a minute)
	@$(BIN)/python tests/bench/verify.py $(BENCH)

kills: $(VENV)/.dev  ## kill broker, producer and consumers with -9, 51 times; then compare every id
	@PYTHONPATH=tests $(BIN)/python -m outside.kills $(KILLS)

fuzz: $(VENV)/.dev  ## judge 300,000 random runs of which it is known what happened (five minutes)
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

releases: $(VENV)/.dev  ## the described lines, selftest and prove --all on RabbitMQ 3.10, 4.0 and 4.3 (RELEASES="4.3 --only seed")
	@PYTHONPATH=tests $(BIN)/python -m outside.releases $(RELEASES)

routing: $(VENV)/.dev  ## compare the model of routing with RabbitMQ 3.10, 4.0 and 4.3 in 2,000 random vhosts each
	@for release in 3.10 4.0 4.3; do \
		RABBITPROOF_TEST_WORLDS=2000 RABBITPROOF_TEST_RABBITMQ=$$release \
		$(BIN)/python -m pytest -q -s -m slow tests/broker/test_routing.py || exit 1; done

pictures: $(VENV)/.dev  ## record the pictures of the README from the real program
	@$(BIN)/python docs/pictures/record.py

table: $(VENV)/.dev  ## run prove --all and record its table in the README (some minutes; TABLE="--rabbitmq all": each release)
	@$(BIN)/python docs/record_table.py $(TABLE)

lock:  ## pin every version anew, from the ranges in pyproject.toml (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv; install it: https://docs.astral.sh/uv" >&2; exit 2; }
	$(LOCK) --output-file requirements.txt
	$(LOCK) --output-file requirements-dev.txt --extra dev --constraint requirements.txt

clean:  ## remove everything that can be made again
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no $(PYTHON) here; install Python 3.11 or newer, or name it: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module; install it: sudo apt-get install python3-venv" >&2; exit 2; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: requirements.txt $(VENV)/.python
	@echo "Installing what requirements.txt lists into $(VENV)."
	@$(PIP) install --requirement requirements.txt
	@$(LINK)
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.python
	@echo "Installing what requirements-dev.txt lists into $(VENV)."
	@$(PIP) install --requirement requirements-dev.txt
	@$(LINK)
	@touch $@
