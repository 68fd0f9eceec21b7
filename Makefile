# Every target needs Python 3.11+ and make, nothing else; .venv is made from the locked versions on first use.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv lint types imports audit test demo crash lock conformance clean help bench faults soak
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile

venv: $(STAMP) ## make .venv with the package (editable), its extras and the test tools

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; set PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) has no venv module; on Debian: apt install python3-venv"; exit 2; }
	@echo "installing the locked dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict, tests included
	$(BIN)/mypy

imports: $(STAMP) ## import-linter: imports only go down
	$(BIN)/lint-imports

audit: $(STAMP) ## the locks: form, hashes, known holes; says so where the vulnerability service cannot be reached
	$(BIN)/python .ci/audit.py

demo: $(STAMP) ## the main job on one screen; ONCE=1 leaves after the checks
	$(BIN)/dicom-gateway demo $(if $(ONCE),--once)

test: lint types imports ## every gate and the tests, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"

bench: $(STAMP) ## ours beside Orthanc and dcmqrscp; QUICK=1 takes under three minutes
	@command -v storescp >/dev/null 2>&1 && PATH=$$PATH:/usr/sbin command -v Orthanc >/dev/null 2>&1 || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1 && apt-get install -y -qq dcmtk orthanc; } || \
		{ echo "error: the peers are missing: apt-get install dcmtk orthanc"; exit 2; }
	$(BIN)/python -m bench $(if $(QUICK),--quick)

crash: $(STAMP) ## kill the archive a thousand times at random moments and look for what is lost
	@rm -rf var/crash && mkdir -p var/crash
	$(BIN)/python -m tests.archive.crash var/crash/files 1000

faults: $(STAMP) ## break everything around real gateways and look for what is lost; QUICK=1 takes about two minutes
	@command -v storescp >/dev/null 2>&1 || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1 && apt-get install -y -qq dcmtk; } || \
		{ echo "error: the peers are missing: apt-get install dcmtk"; exit 2; }
	$(BIN)/python -m faults $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

MINUTES ?= 10
soak: $(STAMP) ## all services at once with real peers for MINUTES=10, watching memory, descriptors and threads
	@command -v storescp >/dev/null 2>&1 && PATH=$$PATH:/usr/sbin command -v Orthanc >/dev/null 2>&1 || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null 2>&1 && apt-get install -y -qq dcmtk orthanc; } || \
		{ echo "error: the peers are missing: apt-get install dcmtk orthanc"; exit 2; }
	$(BIN)/python -m faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lock: ## resolve the lock files anew (needs uv): development, what the container runs, what builds its wheel
	$(LOCK) pyproject.toml --group dev --all-extras -o requirements.lock
	$(LOCK) pyproject.toml --all-extras -c requirements.lock -o requirements-runtime.lock
	$(LOCK) --group build -c requirements.lock -o requirements-build.lock

conformance: $(STAMP) ## write docs/conformance.md anew from the code
	$(BIN)/dicom-gateway conformance --defaults > docs/conformance.md

clean: ## remove what the targets made, but for var/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
