.DEFAULT_GOAL := help
.PHONY: help sweep test test-all lint style types imports bench gpu wheels tensorboard clean
PYTHON ?= python3
BIN := .venv/bin
# Byte code of all modules would take a third of the time: that of those which a sweep imports is written below.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.made:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.12') if sys.version_info < (3, 11) else 0"
	$(PYTHON) -m venv .venv
	@touch $@

# What the main job needs; anew whenever the dependencies change.
.venv/.installed: .venv/.made pyproject.toml constraints.txt
	$(INSTALL) -e .
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c "import losslens.run.command, losslens.report.make, sklearn.linear_model"
	@touch $@

# What an extra of pyproject.toml adds to it.
.venv/.with-%: .venv/.installed
	$(INSTALL) -e '.[$*]'
	@touch $@

sweep: .venv/.installed ## train the five variants: l1, luma, red, green, blue
	$(BIN)/python train.py -m loss=l1,luma,red,green,blue

test: .venv/.with-test ## run the tests, in as many processes as there are cores; some minutes
	$(PYTEST)

test-all: test .venv/.with-test-all ## run the slow tests and those of clusters as well; half an hour
	$(PYTEST) -m 'slow or cluster'

# Ruff needs nothing of the project: on a fresh machine it tells within seconds.
.venv/.with-ruff: .venv/.made constraints.txt
	$(INSTALL) ruff
	@touch $@

lint: style types imports ## check style, types and the direction of imports

style: .venv/.with-ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.with-lint
	$(BIN)/mypy

imports: .venv/.with-lint
	$(BIN)/lint-imports

bench: .venv/.with-bench ## measure quality, and speed against what one writes without losslens; a quarter of an hour
	for script in quality startup overhead scaling streaming sweep; do $(BIN)/python benchmarks/$$script.py || exit 1; done

# A machine without a network takes the wheels that it lacks from .whl/, where `make wheels` has put them elsewhere.
ifneq ($(wildcard .whl),)
gpu: ## on a machine with a GPU: tests, profile and benchmarks, in nine minutes
	$(PYTHON) benchmarks/gpu.py --wheels .whl $(STEPS)
else
gpu: .venv/.with-test .venv/.with-bench
	$(BIN)/python benchmarks/gpu.py $(STEPS)
endif

WHEELS ?= hydra-core omegaconf antlr4-python3-runtime platformdirs hydra-joblib-launcher google-crc32c
wheels: ## put what a machine with a GPU and Python 3.12 may lack into .whl/
	rm -rf .whl
	$(PYTHON) -m pip wheel --quiet --no-deps -w .whl -c constraints.txt $(filter-out google-crc32c,$(WHEELS))
	$(PYTHON) -m pip download --quiet --no-deps -d .whl -c constraints.txt --only-binary=:all: --python-version 3.12 \
	    --platform manylinux2014_x86_64 $(filter google-crc32c,$(WHEELS))

tensorboard: .venv/.installed ## look at all runs, on localhost only
	$(BIN)/tensorboard --logdir outputs --host localhost

clean: ## remove caches and the environment; outputs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
