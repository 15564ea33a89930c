# Every target installs its packages into a virtual environment of its own (.venv); nothing is installed outside.
# Another interpreter: make test PYTHON=python3.12
export PYTHON

bin := .venv/bin
# One process per core; each has its share of the tests and, once it has finished, takes some of another's.
workers := --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint fix docs clean

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

demo:  ## Train on handwritten digits, evaluate, export to ONNX
	@.ci/venv test
	$(bin)/cnnkit train --data digits
	$(bin)/cnnkit eval --confusion
	$(bin)/cnnkit export --onnx

test:  ## Run the tests, without the slow ones
	@.ci/venv test
	$(bin)/python -m pytest $(workers) -m "not slow"

test-all:  ## Run every test
	@.ci/venv test
	$(bin)/python -m pytest $(workers)

lint:  ## Check style, format, types and scripts
	@.ci/venv dev
	$(bin)/python -m ruff check .
	$(bin)/python -m ruff format --check .
	$(bin)/python -m pyright
	$(bin)/shellcheck .ci/venv .ci/run

fix:  ## Repair style and format where a machine can do it
	@.ci/venv dev
	$(bin)/python -m ruff check --fix .
	$(bin)/python -m ruff format .

docs:  ## Build the documentation into build/docs
	@.ci/venv docs
	$(bin)/zensical build --strict --config-file .zensical.toml

clean:  ## Remove built files and caches; .venv and runs/ stay
	rm -rf build dist .cache .pytest_cache .ruff_cache .hypothesis
	find cnnkit tests plugins -name __pycache__ -type d -prune -exec rm -rf {} +
