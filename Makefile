# `make` alone lists the targets. All of them need only Python 3.11 to 3.13 with venv, and a network to PyPI.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench chaos chart image docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/%.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: install one, or say make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing autoingest[$*] into $(VENV): two to four minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@

demo: $(VENV)/demo.installed  ## take a simulated exposure from its notifications to the Butler
	$(BIN)/autoingest demo

test: $(VENV)/test.installed  ## run the whole test suite, real servers included
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/test.installed  ## check style, types, imports and declared dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .
	$(BIN)/deptry autoingest --optional-dependencies-dev-groups test --ignore DEP002

bench: $(VENV)/test.installed  ## measure, and print medians
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

chaos: $(VENV)/test.installed  ## kill processes and servers under load, and count what is lost
	$(BIN)/python -m pytest tests/chaos --chaos=full $(PYTEST_ARGS)
	AUTOINGEST_EXAMPLES=10000 $(BIN)/python -m pytest --timeout 3600 -k "neighbours or as_it_is_written or damaged or can_be_read or whatever_pieces" \
		tests/roles/test_enqueue.py tests/integration/test_openapi.py tests/store/test_reader.py tests/butler/test_channel.py tests/http/test_pieces.py

chart: $(VENV)/test.installed  ## render the Helm chart for all environments and check it; needs npm
	AUTOINGEST_MUST_RUN="helm hadolint $$AUTOINGEST_MUST_RUN" $(BIN)/python -m pytest tests/packaging \
		--ignore tests/packaging/test_image.py $(PYTEST_ARGS)

image: $(VENV)/test.installed  ## build the image and run it; needs root, buildah, mmdebstrap, and some minutes
	AUTOINGEST_MUST_RUN="image $$AUTOINGEST_MUST_RUN" $(BIN)/python -m pytest -s tests/packaging/test_image.py $(PYTEST_ARGS)

docs: $(VENV)/docs.installed  ## write the generated pages and the chart's schema, and build the site in build/docs
	$(BIN)/python docs/generate.py
	$(BIN)/python helm/generate.py
	$(BIN)/sphinx-build -W --keep-going -q -d build/doctrees docs build/docs

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) build dist *.egg-info autoingest-data autoingest-demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
