# Every target does its own set-up: a virtual environment in .venv with what requirements/locked.txt lists, by digest.
PYTHON ?= python3
BIN := .venv/bin
# Nothing but the files whose digests are listed, and nothing built from source: that would fetch a backend unlisted.
INSTALL := $(BIN)/python -m pip install --quiet --no-deps --only-binary :all: --require-hashes

.PHONY: help mnist test lint seeds frontier convergence theory certificates steering interpolation topology equilibrium lectures hopfield hopfield-paper citation estimators quick bench scale faults docs tutorials audit matrix lock terminal screenshots clean

help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

mnist: .venv/ready  ## Train MNIST with 745 numbers: three to six minutes. OPTIONS="--seed 1" passes options on.
	$(BIN)/cde-nets train mnist $(OPTIONS)

test: .venv/ready  ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/ready  ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

seeds: .venv/ready  ## Train MNIST from three seeds: the README's figures and pictures.
	$(BIN)/python -m experiments.mnist_seeds --publish docs

frontier: .venv/ready  ## Accuracy against trained numbers, beside other networks: docs' figure. A night; goes on where it stood.
	$(BIN)/python -m experiments.frontier run frontier others ablation
	$(BIN)/python -m experiments.frontier certify frontier
	$(BIN)/python -m experiments.frontier publish docs

convergence: .venv/ready  ## Measure orders and the continuous adjoint's error: docs' figure.
	$(BIN)/python -m experiments.convergence --publish docs

theory: .venv/ready  ## Growth vectors, float ranks beside exact ones, how few fields are enough: docs' figures.
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m experiments.growth_vectors --publish docs
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m experiments.float_rank --publish docs
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m experiments.few_fields --publish docs

certificates: .venv/ready  ## Time proofs about the newest trained network: docs' figure. OPTIONS="--network PATH" names one.
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m experiments.certificates --publish docs $(OPTIONS)

steering: .venv/ready  ## Twenty points to twenty targets, the classical examples, the group commutator: docs' figures.
	$(BIN)/python -m experiments.twenty_points --publish docs
	$(BIN)/python -m experiments.one_point --publish docs
	$(BIN)/python -m experiments.group_commutator --publish docs

interpolation: .venv/ready  ## How often, how far, with how many numbers: docs' figure. An hour; goes on where it stood.
	$(BIN)/python -m experiments.interpolation --publish docs

topology: .venv/ready  ## What flows on the line and in the plane cannot do: docs' figures.
	$(BIN)/python -m experiments.on_the_line --publish docs
	$(BIN)/python -m experiments.planar --publish docs

equilibrium: .venv/ready  ## Backward methods, fixed points, influence on a cycle, the propositions: docs' figures.
	$(BIN)/python -m experiments.backward_methods --publish docs
	$(BIN)/python -m experiments.fixed_points --publish docs
	$(BIN)/python -m experiments.one_backend --publish docs
	$(BIN)/python -m experiments.cycle_influence --publish docs
	$(BIN)/python -m experiments.neumann --publish docs
	$(BIN)/python -m experiments.regular_at_rest --publish docs
	$(BIN)/python -m experiments.implicit_function --publish docs

lectures: .venv/ready  ## Backpropagation, descent, approximation and the rest of the lectures: docs' page and figures.
	$(BIN)/python -m experiments.backprop --publish docs
	$(BIN)/python -m experiments.computation_graph --publish docs
	$(BIN)/python -m experiments.gradient_descent --publish docs
	$(BIN)/python -m experiments.residual_networks --publish docs
	$(BIN)/python -m experiments.cheap_gradient --publish docs
	$(BIN)/python -m experiments.stochastic_gradient --publish docs
	$(BIN)/python -m experiments.subgradients --publish docs
	$(BIN)/python -m experiments.logistic --publish docs
	$(BIN)/python -m experiments.regression --publish docs
	$(BIN)/python -m experiments.universal_approximation --publish docs

hopfield: .venv/ready  ## Table A1 of recurrent back-propagation made again: docs' figures. Two hours of one core; goes on where it stood.
	$(BIN)/python -m experiments.hopfield --publish docs $(OPTIONS)

hopfield-paper: .venv/ready  ## The same at the published size, two trials a cell: six hours; goes on where it stood.
	$(BIN)/python -m experiments.hopfield --size paper --trials 2 --publish docs $(OPTIONS)

citation: .venv/ready  ## Tables A2 and A3, on Cora: docs' figure. Some twenty hours of one idle core; goes on where it stood.
	$(BIN)/python -m experiments.citation_gradients --publish docs $(OPTIONS)
	$(BIN)/python -m experiments.citation --publish docs $(OPTIONS)

estimators: .venv/ready  ## The scikit-learn estimators beside scikit-learn's own: docs' figure and table.
	$(BIN)/python -m experiments.estimators --publish docs

quick: .venv/ready  ## Every experiment in its --quick form, under a minute each: a table of seconds and exit codes.
	$(BIN)/python -m experiments $(OPTIONS)

bench: .venv/ready  ## Time flows beside torchdiffeq, torchode, diffrax and JAX, certificates, equilibria: docs' page on speed.
	$(BIN)/python -m benchmarks --threads 2 --publish docs $(OPTIONS)
	$(BIN)/python -m benchmarks.profile --threads 2 --publish docs
	$(BIN)/python -m benchmarks.growth --publish docs
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.certificates --publish docs
	$(BIN)/python -m benchmarks.equilibrium --publish docs
	$(BIN)/python -m benchmarks.equilibrium_memory --publish docs

scale: .venv/ready  ## Reckon what 8, 64 and 1,000 GPUs would cost and send: docs' table.
	$(BIN)/python -m benchmarks.scale --publish docs

faults: .venv/ready  ## Kill long runs and workers, fill disks, feed readers with damaged files: docs' tables. An hour.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults kill --publish docs
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults workers --publish docs
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults feed --publish docs
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults arguments --publish docs

docs: .venv/ready  ## Build the site into site/, in strict mode.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

audit: .venv/ready  ## Ask PyPI for known vulnerabilities of all that requirements/ lists. Needs a connection.
	@# Strict: a package that the service says nothing of is no package without vulnerabilities.
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
	--requirement requirements/torch.txt --requirement requirements/locked.txt \
	|| { echo "Found above, or not asked: where the service could not be reached, nothing is known either way."; exit 1; }

matrix: .venv/ready  ## Tests on every Python that is installed; TORCH="2.13.0 .." names releases. See noxfile.py.
	$(BIN)/nox $(OPTIONS)

lock: .venv/ready  ## Write requirements/: what pyproject.toml asks for, with digests. OPTIONS=--upgrade takes newest versions.
	$(BIN)/python requirements/lock.py $(OPTIONS)

tutorials: .venv/ready  ## Run the tutorials' scripts and write their pages.
	OMP_NUM_THREADS=1 $(BIN)/python docs/make/tutorials.py

terminal: .venv/ready  ## Record the newcomer's three commands: docs' page. Trains for minutes. OPTIONS="--data-dir FOLDER".
	OMP_NUM_THREADS=1 $(BIN)/python docs/make/terminal.py $(OPTIONS)

screenshots: docs  ## Draw the pictures of the report page and of the site with chromium: make screenshots REPORT=RUN/report.html
	$(BIN)/python docs/make/screenshots.py --report $(REPORT) --site site

.venv/ready: pyproject.toml setup.py $(wildcard requirements/*.txt) $(wildcard cde_nets/kernels/cpp/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python {v[0]}.{v[1]} found, 3.11 or newer needed: make PYTHON=python3.11 ..")'
	$(PYTHON) -m venv .venv
	@# A build of torch at hand (PIP_FIND_LINKS) goes before PyPI's, which on Linux brings CUDA's libraries, several GB.
	$(INSTALL) -qq --no-index --requirement requirements/torch.txt \
	|| { echo "No listed build of torch at hand: from the index."; $(INSTALL) --requirement requirements/torch.txt; }
	$(INSTALL) --requirement requirements/locked.txt
	if $(BIN)/python -c 'import importlib.metadata as m, sys; sys.exit("nvidia" not in str(m.requires("torch")))'; \
	then $(INSTALL) --requirement requirements/cuda.txt; fi
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch .venv/ready

clean:  ## Remove what the targets made, runs excepted.
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
