# `make` prints what can be done. Every target first makes its own environment, .venv (minutes, once).
PYTHON ?= python3
BIN := .venv/bin
ENV := .venv/.installed

.PHONY: help run test presets campaign benchmark lab docs readme constraints clean
.SILENT:

help: ## this list
	sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

run: $(ENV) ## train an adversarial patch through a diffusion model's attention, into outputs/
	$(BIN)/attnattack run patch_attack -f nbs/experiments/params/default.yaml

test: $(ENV) ## every check and every test
	$(BIN)/python tools/check.py

presets: $(ENV) ## the presets for real models, with random ones of the same classes: minutes
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/test_presets.py

campaign: $(ENV) ## kills, wrong values, interrupts and planted faults, into outputs/: half an hour
	$(BIN)/attnattack run campaign -f nbs/experiments/params/default.yaml

benchmark: $(ENV) ## time and memory of the latent attack beside its plain transcription, into outputs/
	$(BIN)/attnattack run benchmark -f nbs/experiments/params/default.yaml

lab: $(ENV) ## JupyterLab in nbs/
	$(BIN)/jupyter lab nbs

docs: $(ENV) ## the notebooks and the API as a site with a search, into _docs/
	$(BIN)/python tools/handbook.py

readme: $(ENV) ## README.md from nbs/index.ipynb
	$(BIN)/python tools/pages.py

constraints: $(ENV) ## constraints.txt and hashes.txt from the versions in .venv, for every Python
	$(BIN)/python tools/constraints.py

clean: ## remove the environment, the pages and caches (not outputs/)
	rm -rf .venv _docs _proc build dist *.egg-info .pytest_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(ENV): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	  || { echo 'PYTHON=$(PYTHON): not a Python of 3.10 or newer: name one, e.g. make PYTHON=python3.11' >&2; exit 1; }
	echo 'making the environment .venv: some minutes, once'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
