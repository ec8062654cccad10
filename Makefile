# instep: every command a developer needs. `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test check lock fmt

demo: .venv/run.stamp
	$(BIN)/instep demo $(if $(FRESH),--fresh)

test: .venv/dev.stamp
	$(BIN)/python -m pytest tests $(PYTEST_ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/house -q

fmt: .venv/dev.stamp
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

.venv/run.stamp: requirements/run.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements/run.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/dev.stamp: .venv/run.stamp requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	touch $@

# Pins and hashes without addresses of registries (a lock file of uv's own would record them).
lock: .venv/dev.stamp
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --extra build pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --extra build --extra dev pyproject.toml -o requirements/dev.txt
