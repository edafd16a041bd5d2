# Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
PORT   ?= 8010
DATA   ?= .data
TRACE  ?=
SERVICE ?=

.PHONY: run logs test test-faults test-deploy lint fmt pin user clean
.DEFAULT_GOAL := run

run: $(READY)
	@exec $(BIN)/python -m network run --with-parent $$PPID --port $(PORT) --data "$(DATA)"

logs: $(READY)
	@exec $(BIN)/python -m network logs --data "$(DATA)" --trace "$(TRACE)" --service "$(SERVICE)"

test: lint
	$(BIN)/pytest -m "not fault and not deploy"

test-faults: $(READY)
	$(BIN)/pytest -m fault

# needs kustomize or kubectl, or a container engine
test-deploy: $(READY)
	$(BIN)/pytest -m deploy

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# make user NAME=alice FILE=users: asks for the password
user: $(READY)
	@$(BIN)/python -m chassis.users add "$(NAME)" --file "$(FILE)"

PIN = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

pin:
	$(PIN) pyproject.toml --extra network --extra dev -o constraints.txt
	$(PIN) pyproject.toml -c constraints.txt -o services/runtime.txt
	echo hatchling | $(PIN) - -c constraints.txt -o services/build.txt

$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; say make PYTHON=... to name one")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
