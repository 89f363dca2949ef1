# The verbs of this repository. `make` alone lists them.
#
# A fresh machine needs Python >= 3.11, git and make, nothing else and no root: every verb sets up .venv in this
# directory first, from the lock files and by hash, and does so again only when a lock file or pyproject.toml changed.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
ARGS ?=
PROCESSES ?= $(shell expr 3 '*' $$(getconf _NPROCESSORS_ONLN))
IMAGE ?= drycc-router:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
ENGINE ?= $(shell for name in podman buildah docker; do command -v $$name && break; done)

.DEFAULT_GOAL := help
.PHONY: help run test fuzz conformance check format docs lock bench chart image clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## run the router in front of the demo apps (Ctrl-C ends everything)
	@exec $(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.dev ## run the tests (ARGS="tests/tls -x" narrows them, PROCESSES=0 runs them one after the other)
	@$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(ARGS)

# Tests wait for most of their time, so more of them run at once than there are cores. Each process imports all tests,
# and many tests start a router: bytecode is kept, whatever the environment says, because compiling costs more than that.
test: export PYTHONDONTWRITEBYTECODE :=

fuzz: $(VENV)/.dev ## search for inputs that tell our parsers from others, and keep them (ARGS="--minutes 60" for longer)
	@$(BIN)/python -m tests.fuzz $(ARGS)
	@DRYCC_FUZZ=long $(BIN)/python -m pytest tests/fuzz tests/stories/test_faults.py --timeout 3600

conformance: $(VENV)/.dev ## test against a real API server, built once with Go (ARGS=--record writes the recorded session)
	@$(BIN)/python -m tests.conformance $(ARGS)

check: $(VENV)/.dev ## lint, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## sort imports, format, mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.runtime ## write again the pages of docs/ that are generated from code
	$(BIN)/python -m docs.generate

bench: $(VENV)/.runtime ## measure against nginx, HAProxy, Envoy, Traefik and Caddy (see benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

lock: $(VENV)/.dev ## write the lock files again (ARGS=--upgrade takes the newest versions)
	echo setuptools | $(COMPILE) $(ARGS) pyproject.toml - --output-file requirements.lock
	echo setuptools | $(COMPILE) $(ARGS) pyproject.toml - --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock

chart: $(VENV)/.dev ## package the chart into dist/ (tests/charts is what checks it)
	@$(BIN)/python -c "import helm_python; print(helm_python.package('charts/router', destination='dist'))"

image: ## build the image (IMAGE=registry.example/drycc-router:1 names it, ARGS go to the engine)
	@test -n '$(ENGINE)' || { echo 'No podman, buildah or docker found: install one, or say make image ENGINE=...' >&2; exit 1; }
	$(ENGINE) build --file Containerfile --tag $(IMAGE) --build-arg REVISION=$(shell git rev-parse HEAD) $(ARGS) .

clean: ## remove what the verbs made
	rm -rf $(VENV) .demo .benchmarks build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# One lock for every Python and platform we support, from PyPI alone whatever this machine is configured to ask.
# setuptools is in it because it builds the package itself, which must not need the network a second time.
COMPILE = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--default-index https://pypi.org/simple --no-emit-index-url --custom-compile-command 'make lock'

# A stamp is touched last, so a set-up that was interrupted is done again.
INSTALL = $(BIN)/python -m pip install -qq --disable-pip-version-check

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo 'Setting up $(VENV): the router and what it runs on'
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo 'Setting up $(VENV): what the tests and checks need'
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer found: install one, or say make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo '$(PYTHON) cannot make virtual environments (Debian: the package python3-venv)' >&2; \
		rm -rf $(VENV); exit 1; }
