# make demo   train a DDPM on handwritten digits, leave pictures and a page in runs/demo; goes on if it was stopped
# make test   the whole test suite
# make test-mpi  the tests of several processes, with the extra [mpi]
# make verify every equation against its oracle, the misprints proven, wrong formulas killed; a page in runs/verify
# make mutants  only the wrong formulas, one by one
# make figures  train and judge every system, about two minutes each, those that are not yet in runs/; print the
#             README's table, draw the chart of quality, diversity and speed
# make bench  side by side with PyTorch, JAX and autograd, in an environment of its own, .venv-bench; results in
#             runs/bench.  ONLY="vae_mlp gpt_char" chooses workloads, STEPS=200 how many steps, TORCH="…" what pip is
#             asked for: on Linux, PyTorch's own page says how to get its build for CPUs
# make bench BACKEND=cupy  the same on an NVIDIA GPU, in .venv-bench-cuda, several gigabytes; results in
#             runs/bench/gpu.json.  PRECISION=tf32 or bf16 for everybody's products, SIZES=small,large, CUDA=12x for CUDA 12
# All others make their own virtual environment in .venv first; PYTHON names the interpreter to make it with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
READY := $(VENV)/.installed
# any build does; on Linux pip's own choice is the one for CUDA, several gigabytes
TORCH ?= torch==2.13.0
BACKEND ?= numpy
CUDA ?= 13x
ifeq ($(BACKEND),numpy)
BENCH := .venv-bench
RESULTS := runs/bench/bench
else
BENCH := .venv-bench-cuda
RESULTS := runs/bench/gpu
ON := --backend $(BACKEND) $(if $(PRECISION),--precision $(PRECISION)) $(if $(SIZES),--sizes $(SIZES))
endif

.PHONY: demo test test-long test-mpi verify mutants figures bench lint clean

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "scratchgen needs Python 3.11 or newer; '$(PYTHON)' is older: make PYTHON=python3.x"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

demo: $(READY)
	$(BIN)/scratchgen train ddpm --out runs/demo $$(test ! -f runs/demo/config.json || echo --resume)

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) -m 'not long'

test-long: $(READY)
	$(BIN)/python -m pytest -n $(JOBS)

test-mpi: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mpi]'
	$(BIN)/python -m pytest tests/train/test_train_parallel.py

verify: $(READY)
	$(BIN)/scratchgen verify --jobs $(JOBS)

mutants: $(READY)
	$(BIN)/python tests/mutants/run.py --jobs $(JOBS)

.venv-bench-cuda/.installed: setup.cfg pyproject.toml
	@nvidia-smi -L > /dev/null 2>&1 || \
	  { echo "make bench BACKEND=cupy: there is no NVIDIA GPU here, or no driver: nvidia-smi lists none"; exit 2; }
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[bench,cuda$(CUDA),cudnn$(CUDA)]' 'jax[cuda$(CUDA:x=)]'
	@touch $@

.venv-bench/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --no-deps $(TORCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

figures: $(READY)
	for id in $$($(BIN)/scratchgen list --ids); do \
	  test -f runs/$$id/evaluation.safetensors || \
	  $(BIN)/scratchgen train $$id $$(test ! -f runs/$$id/config.json || echo --resume) || exit; done
	$(BIN)/scratchgen list --table
	$(BIN)/scratchgen compare $$($(BIN)/scratchgen list --ids | sed s,^,runs/,) --out docs/pictures/trilemma.png

bench: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks $(ONLY) $(if $(STEPS),--steps $(STEPS)) $(ON) \
	  --json $(RESULTS).json --picture $(RESULTS).png

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .venv-bench .venv-bench-cuda build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
