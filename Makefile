# Every habit is one target. `make` alone lists them.

export PYTHON ?= python3
export PIP_ROOT_USER_ACTION = ignore
# The tests start hundreds of processes: none of them compiles all modules again, whatever the shell has set.
export NO_MKDOCS_2_WARNING = 1 # MkDocs 1 is what the theme is made for
export PYTHONDONTWRITEBYTECODE =
PYTEST_OPTIONS ?=
QUICK_OPTIONS ?=
DEMO_OPTIONS ?=
PLATFORM ?= amd64
IMAGES_OPTIONS ?=
MINUTES ?= 60
SOAK_OPTIONS ?=
MODEL_STEPS ?= 5000
DEVICES ?= 50
THOUSANDS ?= 5000
TEMPLATES ?= deployment.template.json
BENCH_OPTIONS ?= --output benchmarks
FOOTPRINT_OPTIONS ?= --output benchmarks/footprint.md
ENVIRONMENT := .venv
SIBLINGS := .venv-siblings
BENCH := .venv-bench
FUZZ_OPTIONS ?= --seconds 60
FUZZ := .venv-fuzz
MUTANTS_OPTIONS ?=
MUTANTS := .venv-mutants
INTEROP_OPTIONS ?= --output docs/interoperability.md
INTEROP := .venv-interop
DOCS := .venv-docs
ALL_CORES := --numprocesses auto --dist worksteal
RELEASE_OPTIONS ?=
RELEASE := .venv-release
BIN := $(ENVIRONMENT)/bin
SOURCES := $(shell find modules/sftp/iot -name '*.py')

.PHONY: help demo quick test coverage nightly test-faults soak lost-hub fleet bench footprint fuzz mutants interop lint images manifest docs docs-test release dashboard reference surface format requirements clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(ENVIRONMENT)/.demo ## call every method, on a local edge runtime and a real SFTP server
	$(BIN)/python -m localedge.demo $(DEMO_OPTIONS)

quick: lint ## check what changed: lint, types, and its fastest tests, in a minute; QUICK_OPTIONS=--help tells more
	tools/install-test-servers
	$(BIN)/python -m quick $(QUICK_OPTIONS)

test: style what-the-tests-need ## check everything: lint, and the whole suite
	@mkdir -p build
	@$(MAKE) --no-print-directory --jobs=2 types-beside-tests run-tests; status=$$?; cat build/types.log; exit $$status

# The tests leave a part of the processors' time: the types, which take long at first, are checked in it.
.PHONY: run-tests style types types-beside-tests what-the-tests-need
types-beside-tests:
	@$(BIN)/mypy >build/types.log 2>&1

run-tests:
	rm -f .pytest_cache/v/cache/lastfailed
	$(BIN)/python -m pytest $(ALL_CORES) -p quick.durations $(PYTEST_OPTIONS) || $(BIN)/python tools/run-failed-again $$?

what-the-tests-need: $(SIBLINGS)/.made
	tools/install-test-servers
	tools/install-interop-servers --fast

coverage: what-the-tests-need ## run the whole suite under coverage, which takes twice as long: 95 % with branches at least
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ALL_CORES) $(PYTEST_OPTIONS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

nightly: $(ENVIRONMENT)/.dev ## the tests that make test leaves out, since what they hold changes seldom: a few minutes
	tools/install-test-servers
	tools/install-interop-servers --fast
	$(BIN)/python -m pytest -m nightly --numprocesses auto --dist worksteal $(PYTEST_OPTIONS)

test-faults: $(ENVIRONMENT)/.dev ## inject every fault into a running module, with either server: five minutes
	tools/install-test-servers
	$(BIN)/python -m pytest -m "faults or not faults" $(PYTEST_OPTIONS) tests/faults

soak: $(ENVIRONMENT)/.dev ## let faults strike for MINUTES=60, the model run MODEL_STEPS=5000, hypothesis try a thousand examples
	tools/install-test-servers
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(SOAK_OPTIONS)
	$(BIN)/python -m tests.model --steps $(MODEL_STEPS) --report build/soak/model.md
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile many --timeout 0 --numprocesses logical

lost-hub: $(ENVIRONMENT)/.dev ## lose the edge hub for good in every way, and measure when the module exits: 20 minutes
	$(BIN)/python -m tests.faults.lost_hub

fleet: $(ENVIRONMENT)/.dev ## run DEVICES=50 modules on one hub, simulate THOUSANDS=5000: folders, jobs, keys, costs; build/fleet
	tools/install-test-servers
	$(BIN)/python -m tests.fleet --devices $(DEVICES) --thousands $(THOUSANDS)

bench: $(BENCH)/.made ## measure side by side with other clients, 30 minutes; options: BENCH_OPTIONS=--help
	tools/install-peers
	$(BENCH)/bin/python -m benchmarks $(BENCH_OPTIONS)

footprint: $(ENVIRONMENT)/.dev ## measure memory, wake-ups, bytes on the wire and in the flash: ten minutes; FOOTPRINT_OPTIONS=--help
	tools/install-test-servers
	$(BIN)/python -m benchmarks.footprint $(FOOTPRINT_OPTIONS)

fuzz: $(FUZZ)/.made ## search for input that breaks us, a minute for each target; options: FUZZ_OPTIONS=--help
	$(FUZZ)/bin/python -m fuzzing $(FUZZ_OPTIONS)

mutants: $(MUTANTS)/.made $(ENVIRONMENT)/.dev ## mutation testing: change the core in one place after the other; options: MUTANTS_OPTIONS=--help
	tools/install-test-servers
	PYTHONPATH=tools $(MUTANTS)/bin/python -m mutants $(MUTANTS_OPTIONS)

interop: $(INTEROP)/.made $(ENVIRONMENT)/.dev ## test with every SFTP server that can be installed, and write docs/interoperability.md: 30 minutes
	tools/install-test-servers
	tools/install-interop-servers
	$(BIN)/python -m tests.interop $(INTEROP_OPTIONS)

lint: style types ## check style, layers and types

style: $(ENVIRONMENT)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: $(ENVIRONMENT)/.dev
	$(BIN)/mypy

images: $(ENVIRONMENT)/.dev ## build, run and measure the images: PLATFORM="amd64 arm32v7 arm64v8"
	tools/install-image-tools $(PLATFORM)
	$(BIN)/python -m images $(IMAGES_OPTIONS) $(PLATFORM)

manifest: $(ENVIRONMENT)/.dev ## expand and check the deployments into config/: PLATFORM=arm32v7 TEMPLATES="…"
	$(BIN)/python -m manifest --platform $(PLATFORM) $(TEMPLATES)

docs: $(DOCS)/.made ## build the documentation as a site, warnings are errors: build/book/site
	PYTHONPATH=tools $(DOCS)/bin/python -m book
	$(DOCS)/bin/mkdocs build --strict --quiet
	@echo "To read it: python3 -m http.server --bind 127.0.0.1 --directory build/book/site"

docs-test: docs $(ENVIRONMENT)/.dev ## look at every page of the site in a browser: links, search, a phone, dark mode; build/book/screenshots
	tools/install-test-browser
	$(BIN)/python -m pytest -m book $(PYTEST_OPTIONS) tests/book

release: $(RELEASE)/.made $(ENVIRONMENT)/.dev ## rehearse the release in build/release: build twice, check, install, run, list; RELEASE_OPTIONS=--help
	tools/install-test-servers
	$(BIN)/python -m release $(RELEASE_OPTIONS)

dashboard: $(ENVIRONMENT)/.dev ## draw docs/dashboard.svg from the metrics of a run of five minutes
	$(BIN)/python -m dashboard

reference: $(ENVIRONMENT)/.dev ## make docs/api.md, docs/errors.md and docs/architecture.svg from the source
	$(BIN)/python -m reference

surface: $(ENVIRONMENT)/.dev ## record the public surface again: names, codes, responses, metrics (tests/frame/public_surface)
	tools/install-test-servers
	PUBLIC_SURFACE=record $(BIN)/python -m pytest -q tests/frame/test_public_surface.py

format: $(ENVIRONMENT)/.dev ## format the code, and apply safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Pins stay as they are unless a dependency asks for more; `make requirements UPGRADE=--upgrade` renews them all.
# What ships, what builds it and what the demo uses is pinned to what is tested.
PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make requirements' $(UPGRADE)
AS_TESTED = --constraint requirements/dev.txt pyproject.toml --extra module

requirements: $(ENVIRONMENT)/.dev ## pin all dependencies again, with hashes
	$(PIN) pyproject.toml --extra module --group dev --output-file requirements/dev.txt
	$(PIN) --constraint requirements/dev.txt --group build --output-file requirements/build.txt
	$(PIN) $(AS_TESTED) --output-file requirements/module.txt
	$(PIN) $(AS_TESTED) --group localedge --output-file requirements/demo.txt
	$(PIN) --constraint requirements/dev.txt pyproject.toml --group bench --output-file requirements/bench.txt
	$(PIN) $(AS_TESTED) --group fuzz --output-file requirements/fuzz.txt
	$(PIN) --group interop --output-file requirements/interop.txt
	$(PIN) --group docs --output-file requirements/docs.txt
	$(PIN) --group mutants --output-file requirements/mutants.txt
	$(PIN) --constraint requirements/dev.txt --group release --output-file requirements/release.txt
	$(PIN) pyproject.toml --group siblings --output-file requirements/siblings.txt

clean: ## remove everything that was made here
	rm -rf $(ENVIRONMENT) $(SIBLINGS) $(BENCH) $(FUZZ) $(MUTANTS) $(INTEROP) $(DOCS) $(RELEASE) build dist config demo-files .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf modules/sftp/*.egg-info

# The environments. A stamp says that one is made; they are made again when what they are made from has changed.

$(ENVIRONMENT)/.demo: requirements/build.txt requirements/demo.txt pyproject.toml tools/make-environment
	tools/make-environment $(ENVIRONMENT) requirements/demo.txt
	$(INSTALL_PROJECT)
	@touch $@

$(ENVIRONMENT)/.dev: requirements/build.txt requirements/dev.txt pyproject.toml tools/make-environment
	tools/make-environment $(ENVIRONMENT) requirements/dev.txt
	$(INSTALL_PROJECT)
	@touch $@ $(ENVIRONMENT)/.demo

# The tools stand beside the project in its environment, and are no part of what it ships.
define INSTALL_PROJECT
$(BIN)/python -m pip install -qq --no-input --no-index --no-build-isolation --no-deps --editable .
@echo '$(CURDIR)/tools' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tools.pth"
@printf '#!/bin/sh\nexec "%s/python" -m localedge "$$@"\n' '$(CURDIR)/$(BIN)' > $(BIN)/localedge
@chmod +x $(BIN)/localedge
endef

# Ours and the peers that are Python libraries, and nothing else.
$(BENCH)/.made: requirements/build.txt requirements/bench.txt pyproject.toml tools/make-environment
	tools/make-environment $(BENCH) requirements/bench.txt
	$(BENCH)/bin/python -m pip install -qq --no-input --no-index --no-build-isolation --no-deps --editable .
	@touch $@

# Ours and atheris, where it has a wheel.
$(FUZZ)/.made: requirements/build.txt requirements/fuzz.txt pyproject.toml tools/make-environment
	tools/make-environment $(FUZZ) requirements/fuzz.txt
	$(FUZZ)/bin/python -m pip install -qq --no-input --no-index --no-build-isolation --no-deps --editable .
	@touch $@

$(MUTANTS)/.made: requirements/build.txt requirements/mutants.txt tools/make-environment
	tools/make-environment $(MUTANTS) requirements/mutants.txt
	@touch $@

$(DOCS)/.made: requirements/build.txt requirements/docs.txt tools/make-environment
	tools/make-environment $(DOCS) requirements/docs.txt
	@touch $@

$(RELEASE)/.made: requirements/build.txt requirements/release.txt tools/make-environment
	tools/make-environment $(RELEASE) requirements/release.txt
	@touch $@

# Servers in Python that others wrote, apart from what they are tried with.
$(INTEROP)/.made: requirements/build.txt requirements/interop.txt tools/make-environment
	tools/make-environment $(INTEROP) requirements/interop.txt
	@touch $@

# The wheel that a release publishes and a sibling distribution in one environment: pip's resolver accepts the two
# together, with all that each pins, and needs nothing beyond what siblings.txt names.
$(SIBLINGS)/.pinned: requirements/build.txt requirements/siblings.txt tools/make-environment
	tools/make-environment $(SIBLINGS) requirements/siblings.txt
	@touch $@

$(SIBLINGS)/.made: $(SIBLINGS)/.pinned $(ENVIRONMENT)/.dev pyproject.toml README.md LICENSE $(SOURCES)
	rm -rf dist
	@echo "Building dist/"; $(BIN)/python -m build --no-isolation >$(SIBLINGS)/build.log 2>&1 || { cat $(SIBLINGS)/build.log; exit 1; }
	$(SIBLINGS)/bin/python -m pip install -qq --no-input --no-index --no-deps --force-reinstall dist/*.whl
	$(SIBLINGS)/bin/python -m pip install -qq --no-input --no-index dist/*.whl --group siblings
	$(SIBLINGS)/bin/python -m pip check
	@touch $@
