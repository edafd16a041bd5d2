# Needs Python 3.11 or later and make, nothing else.

# the Python of the virtual environment; by default shared/network/python.sh chooses one
PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
DRAWS  := $(VENV)/.installed-bench
# port of the first service; the others follow
PORT   ?= 8010
# data and logs of `make run`
DATA   ?= .data
SERVICE ?=
# filters of `make logs`: TRACE, QUOTE=<uuid>, SINCE=10m, UNTIL=18:30, STATUS=5xx, CALLER, ERROR=QuoteExpiredError
TRACE  ?=
QUOTE  ?=
SINCE  ?=
UNTIL  ?=
STATUS ?=
CALLER ?=
ERROR  ?=
# FOLLOW=no: `make logs` ends after the existing lines
FOLLOW ?= yes
# source of `make logs`: run or compose; by default the one that is running
FROM   ?=
# TLS=1: the containers use mutual TLS on every hop
TLS    ?=

export SECRETS ?= $(DATA)/compose
COMPOSE = docker compose -f compose.yaml $(if $(TLS),-f compose.tls.yaml)
# the port inside the containers
INSIDE  = $(if $(TLS),443,80)

.PHONY: bench bench-compare bench-growth bench-overload bench-memory bench-events run status restart reload up down ps logs certs test test-without-batches test-faults test-faults-without-batches test-containers test-deploy test-browser test-client test-install test-collection test-prometheus lint fmt pin user
.DEFAULT_GOAL := run

run: $(READY)
	@exec $(BIN)/python -m network run --with-parent $$PPID --port $(PORT) --data "$(DATA)"

up: $(READY)
	@$(BIN)/python -m network.compose prepare --folder "$(SECRETS)" $(if $(TLS),--tls)
	$(COMPOSE) build
	$(COMPOSE) up --detach --wait --remove-orphans
	@$(BIN)/python -m network.compose sample --folder "$(SECRETS)" $(if $(TLS),--tls) \
		"$$($(COMPOSE) port load-balancer $(INSIDE))"
	@$(BIN)/python -m network.compose strategy --folder "$(SECRETS)" $(if $(TLS),--tls) \
		"$$($(COMPOSE) port integrations-load-balancer $(INSIDE))"
	@echo "The containers are up: make logs follows their logs, make ps lists them, make down stops them."
	@echo "The second DFSP answers at $$($(COMPOSE) port dfsp2-load-balancer $(INSIDE))."

# keeps quotes and secrets for the next `make up`
down:
	$(COMPOSE) down --remove-orphans

ps:
	@$(COMPOSE) ps --all

certs: $(READY)
	@$(BIN)/python -m network.compose certs --folder "$(SECRETS)"

# the processes of `make run`
status: $(READY)
	@$(BIN)/python -m network status --data "$(DATA)"

restart: $(READY)
	@$(BIN)/python -m network restart --data "$(DATA)" "$(SERVICE)"

# the services of `make run` read their files again: users, fees, directory, instruments
reload: $(READY)
	@$(BIN)/python -m network reload --data "$(DATA)"

FILTERS = --service "$(SERVICE)" --trace "$(TRACE)" --quote "$(QUOTE)" --since "$(SINCE)" --until "$(UNTIL)" \
	--status "$(STATUS)" --caller "$(CALLER)" --error "$(ERROR)" --follow "$(FOLLOW)"

logs: $(READY)
	@if [ "$(FROM)" = compose ] || { [ -z "$(FROM)" ] && ! $(BIN)/python -m network.compose is-running --data "$(DATA)" \
		&& [ -n "$$($(COMPOSE) ps --quiet 2>/dev/null)" ]; }; then \
		exec $(BIN)/python -m network.compose logs $(FILTERS) -- $(COMPOSE); \
	else \
		exec $(BIN)/python -m network logs --data "$(DATA)" $(FILTERS); \
	fi

LONG = fault or container or deploy or browser or install or collection or prometheus
# more processes than processors, because tests wait; tests/conftest.py says which tests stay in one of them
PARALLEL = -n 3 --dist loadscope --no-loadscope-reorder

# the Python client, its command line and its conformance kit
CLIENT = tests/client_library tests/command_line tests/conformance

# the tests start hundreds of processes of Python, which would compile all modules or read a file of all public CAs
test test-client test-without-batches test-faults test-faults-without-batches: export PYTHONDONTWRITEBYTECODE =
test test-client test-without-batches test-faults test-faults-without-batches: export SSL_CERT_FILE =

test: lint
	$(BIN)/pytest $(PARALLEL) -m "not ($(LONG))" $(CLIENT:%=--ignore=%)

test-client: $(READY)
	$(BIN)/pytest $(PARALLEL) -m "not ($(LONG))" $(CLIENT)

# the tests that batches between services may affect, once more without batches
test-without-batches: $(READY)
	$(BIN)/pytest $(PARALLEL) --batches=off -m "batches and not ($(LONG))"

test-faults: $(READY)
	$(BIN)/pytest -m fault

test-faults-without-batches: $(READY)
	$(BIN)/pytest --batches=off -m "fault and batches"

# needs the package index that pip is set to
test-install: $(READY)
	$(BIN)/pytest -m install tests/client_library

# needs npm
test-collection: $(READY)
	$(BIN)/pytest -m collection tests/collection

# needs prometheus and promtool
test-prometheus: $(READY)
	$(BIN)/pytest -m prometheus tests/prometheus

# needs an engine; FAULTS=docs/containers-faults.md writes the fault table there
test-containers: $(READY)
	TESTCONTAINERS_RYUK_DISABLED=true FAULTS="$(FAULTS)" $(BIN)/pytest -m container tests/containers

# needs kustomize or kubectl, or a container engine
test-deploy: $(READY)
	$(BIN)/pytest -m deploy

# needs Chromium and its driver, and npm for the checks of accessibility; SCREENSHOTS=docs/screenshots keeps pictures there
test-browser: $(READY)
	$(BIN)/pytest -m browser --screenshots="$(SCREENSHOTS)" tests/integrations tests/contract tests/conformance tests/console

# WORKLOADS=warm CONNECTIONS=1,128 ROUNDS=3 SECONDS=5 QUICK=1: less than the whole, written elsewhere
BENCH = $(BIN)/python -m benchmarks
ASKED = --workloads=$(WORKLOADS) --connections=$(CONNECTIONS) --rounds=$(ROUNDS) --seconds=$(SECONDS) \
	--rows=$(ROWS) --minutes=$(MINUTES) --quick=$(QUICK) --data="$(DATA)"

# needs wrk
bench: $(DRAWS)
	@$(BENCH) run $(ASKED)

# BASE=folder: another checkout, in which `make` has built .venv; BASE_SETTINGS=QUOTES_NAME=value,...; OVERLOAD=also or only: goodput under overload
bench-compare: $(READY)
	@$(BENCH) compare $(ASKED) --base="$(BASE)" --base-settings="$(BASE_SETTINGS)" --overload=$(OVERLOAD)

# ROWS=0,100000000: other sizes of the tables
bench-growth: $(READY)
	@$(BENCH) growth $(ASKED)

bench-overload: $(READY)
	@$(BENCH) overload $(ASKED)

bench-memory: $(READY)
	@$(BENCH) memory $(ASKED)

bench-events: $(READY)
	@$(BENCH) events $(ASKED)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# make user NAME=alice: asks for the password. FILE is a users file in $(DATA): users (the chain), integrations-users,
# receiver-users or console-users. A FILE with a slash is a path. By default it is the file that the chain reads.
FILE      ?=
USERS_FILE = $(if $(FILE),$(if $(findstring /,$(FILE)),$(FILE),$(DATA)/$(FILE)),$(or $(QUOTES_USERS_FILE),$(DATA)/users))

user: $(READY)
	@$(BIN)/python -m chassis.users add "$(NAME)" --file "$(USERS_FILE)"

PIN = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

pin:
	$(PIN) pyproject.toml clients/python/pyproject.toml --extra network --extra tracing --extra dev --extra cli -o constraints.txt
	$(PIN) pyproject.toml --extra tracing -c constraints.txt -o services/runtime.txt
	$(PIN) pyproject.toml --extra network --extra bench -c constraints.txt -o benchmarks/requirements.txt
	echo hatchling | $(PIN) - -c constraints.txt -o services/build.txt

$(READY): constraints.txt pyproject.toml clients/python/pyproject.toml
	@test -x $(BIN)/python || { python=$$(sh shared/network/python.sh $(PYTHON)) && "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable . --editable clients/python
	@touch $@

$(DRAWS): $(READY) benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.txt
	@touch $@
