# Every command that a developer needs. `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

NODE := tests/clerk_emulator/node/node_modules

define OLD_PYTHON
instep needs Python 3.11 or newer, and `$(PYTHON)` is older or missing. Name another: make PYTHON=python3.12 ...
endef
define NO_VENV
`$(PYTHON) -m venv` could not make .venv. On Debian and Ubuntu: apt-get install python3-venv, then run make again.
endef
export OLD_PYTHON NO_VENV

.PHONY: demo test check lock fmt bench bench-peers

demo: .venv/run.stamp
	$(BIN)/instep demo $(if $(FRESH),--fresh)

# One more worker than cores, since some tests wait for browsers and clocks; four at the most.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

test: .venv/dev.stamp $(NODE)/.stamp
	$(BIN)/python -m pytest tests -n $(WORKERS) --maxprocesses 4 $(PYTEST_ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/architecture -q

# The long runs, a few hours: properties and state machines at full size, recoveries stopped at every place, replicas that
# are killed, a soak of PROOF_MINUTES, and mutants that the tests must notice. See docs/proof.md.
.PHONY: proof
proof: .venv/dev.stamp
	HYPOTHESIS_PROFILE=proof $(BIN)/python -m pytest -n 2 tests/domain tests/members/test_listing.py tests/clerk/test_parsing.py tests/clerk/test_webhook_signature.py tests/stories/test_machine.py tests/stories/test_machine_sync.py
	PROOF=exhaustive $(BIN)/python -m pytest -n 2 tests/operations tests/members/test_workflows.py tests/users/test_workflows.py
	$(BIN)/python -m tests.proof.replicas
	$(BIN)/python -m tests.proof.soak
	$(BIN)/python -m tests.proof.mutants

# Attacks on a running installation, on both databases, over loopback: below 10 minutes. See docs/proof.md.
.PHONY: attack
attack: .venv/dev.stamp
	$(BIN)/python -m tests.attack $(ATTACK_ARGS)

# About BENCH_SECONDS in all; what is measured and what is to be reached: docs/benchmarks.md.
bench: .venv/dev.stamp
	$(BIN)/python -m bench

# The first sync, checks and applying: SYNC_USERS users (1,000,000 unless told otherwise), beside floors and targets.
.PHONY: bench-sync
bench-sync: .venv/dev.stamp
	$(BIN)/python -m bench.sync $(SYNC_ARGS)

# Beside the receivers written by Clerk's guides, where ../shared/peers is; PEERS_ARGS goes to its run.py.
bench-peers: .venv/dev.stamp
	$(BIN)/python -m bench.peers $(PEERS_ARGS)

# Line coverage by the tests in this process and their workers; several minutes longer than `make test`.
.PHONY: coverage
coverage: .venv/dev.stamp $(NODE)/.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests -n $(WORKERS) --maxprocesses 4 $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

fmt: .venv/dev.stamp
	$(BIN)/ruff check --fix src tests bench
	$(BIN)/ruff format src tests bench

.venv/run.stamp: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$OLD_PYTHON"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || { echo "$$NO_VENV"; exit 1; }
	$(PIP) --require-hashes -r requirements/run.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	touch $@

# Clerk's own Node client, for the tests of the emulator; without npm they say so.
$(NODE)/.stamp: tests/clerk_emulator/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix $(dir $<) --ignore-scripts --silent && touch $@; fi

# Pins and hashes without addresses of registries (a lock file of uv's own would record them).
lock: .venv/dev.stamp
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --extra build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --extra build --extra dev pyproject.toml -o requirements/dev.txt

.PHONY: ui messages
# The stylesheet and htmx, into src/instep/static (committed: who installs needs no Node).
ui:
	cd ui && npm ci --silent --ignore-scripts && npm run --silent build

# The words of the pages, for translators.
messages: .venv/run.stamp
	mkdir -p src/instep/locale
	$(BIN)/pybabel --quiet extract -F ui/babel.cfg -k _ -k lazy_gettext -k ChangeRejectedError -k InvitationRefusedError -o src/instep/locale/messages.pot --project instep --no-location --omit-header src/instep
