.DEFAULT_GOAL := help
.PHONY: help sweep test lint bench tensorboard clean
PYTHON ?= python3
BIN := .venv/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is made anew whenever the dependencies change.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.12') if sys.version_info < (3, 11) else 0"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

sweep: .venv/.installed ## train the five variants: l1, luma, red, green, blue
	$(BIN)/python train.py -m loss=l1,luma,red,green,blue

test: .venv/.installed ## run the tests, in as many processes as there are cores
	$(BIN)/python -m pytest -n auto --dist loadgroup

lint: .venv/.installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed ## measure speed against what one writes without losslens; a quarter of an hour
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	for script in startup overhead scaling streaming sweep; do $(BIN)/python benchmarks/$$script.py || exit 1; done

tensorboard: .venv/.installed ## look at all runs, on localhost only
	$(BIN)/tensorboard --logdir outputs --host localhost

clean: ## remove caches and the environment; outputs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
