# The targets are listed by `make help`; what the set-up does is told in setup/environment.py.

# An activated environment that has an official Detectron2 build is used as it is; else .venv is made.
official = $(firstword $(foreach env,$(VIRTUAL_ENV) $(CONDA_PREFIX),$(if $(wildcard \
	$(env)/lib/python*/site-packages/detectron2/_C*.so \
	$(env)/lib/python*/site-packages/detectron2.egg-link \
	$(env)/lib/python*/site-packages/__editable__.detectron2*),$(env))))

VENV ?= $(or $(official),.venv)
PHOTO ?= samples/group.jpg
OUTPUT ?= output
SEED ?= 0
FER2013 ?= data/fer2013.zip
FACES ?= data/wider_val_small/held_out.json
IMAGES ?= data/wider_val_small/images
CLASSIFIERS ?= default
DETECTORS ?= default

BIN := $(VENV)/bin
# Named after the clone's place, so that a clone that was moved is set up anew.
STAMP := $(VENV)/.twostage-ready-$(shell pwd -P | cksum | cut -d ' ' -f 1)

# Importing albumentations must not look for updates on the network.
export NO_ALBUMENTATIONS_UPDATE := 1
export PHOTO OUTPUT FER2013 FACES IMAGES DATA EXTRAS TORCH_INDEX

FAST := not slow and not browser and not data
SLOW := (slow or browser)$(if $(TWOSTAGE_DATA), or data, and not data)
# The tests of rooms that compute, and a processor with AVX2 but without AVX-512 and bfloat16.
COMPUTING := $(addprefix tests/,faces networks detection classification baselines twostage eval integration)
LESSER := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2

.PHONY: help setup analyze demo serve test test-lesser test-slow test-all fuzz chaos docs wheel mtcnn peers benchmark \
	tables figures systems refresh format constraints sbom licences audit clean
.DEFAULT_GOAL := help

help: ## list the targets and variables
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  Every target that needs it makes the environment first (once, 6 GB, some minutes). Variables:"
	@echo "  PHOTO=FILE     the photo, or a folder of photos, for analyze (samples/group.jpg)"
	@echo "  OUTPUT=DIR     where analyze writes (output)"
	@echo "  EXTRAS=LIST    for setup, extras of pyproject.toml besides the usual: service,video,cluster,docs,face-start"
	@echo "  TORCH_INDEX=URL for setup, an index of PyTorch's CPU builds: 3 GB instead of 6"
	@echo "  PYTHON=PROGRAM the Python, 3.11 or newer, that makes .venv; if it has an official build of"
	@echo "                 Detectron2, that build is used as it is"
	@echo "  VENV=DIR       the environment (.venv); one of your own, as with an official build of"
	@echo "                 Detectron2, keeps what it has and gets only what it lacks"
	@echo "  TWOSTAGE_DATA=DIR  the real data sets, for test-all"

setup: $(STAMP) ## make the environment: packages, Detectron2, the command twostage; adds EXTRAS
	@$(if $(EXTRAS),$(environment))
	@echo "$(VENV) is ready."

analyze: $(STAMP) ## find faces and emotions in PHOTO; picture and JSON go to OUTPUT
	@mkdir -p "$$OUTPUT"
	@$(BIN)/twostage analyze "$$PHOTO" --out "$$OUTPUT/faces.json" --annotated "$$OUTPUT"

demo: $(STAMP) ## open the page on this machine (Ctrl-C ends it)
	$(BIN)/streamlit run demo/app.py --server.address localhost \
		--server.showEmailPrompt false --browser.gatherUsageStats false $(ARGS)

serve: $(STAMP) ## answer over HTTP at localhost:8000 (docs/service.md; Ctrl-C ends it); ARGS=OPTIONS
	@EXTRAS="$$EXTRAS service"; $(environment)
	@mkdir -p "$$OUTPUT"
	$(BIN)/twostage serve --database "sqlite:///$$OUTPUT/service.sqlite3" $(ARGS)

test: $(STAMP) ## format, lint, types, walls and the fast tests (under 5 minutes)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "$(FAST)"

test-lesser: $(STAMP) ## the fast tests that compute, as a processor without AVX-512 and bfloat16
	$(LESSER) $(BIN)/pytest -m "$(FAST)" $(COMPUTING)

test-slow: $(STAMP) ## the slow and browser tests (with TWOSTAGE_DATA set, those on real data)
	$(BIN)/pytest -m "$(SLOW)"

test-all: test test-lesser test-slow ## all of them

fuzz: $(STAMP) ## damaged pictures (2000), data files (500), model files and addresses; SEED=N draws others
	$(BIN)/python -m tests.campaign pictures data models addresses --seed $(SEED) $(ARGS)

chaos: $(STAMP) ## kill analyze (25 times) and both trainings (15 each) and resume them; SEED=N kills elsewhere
	$(BIN)/python -m tests.campaign analyze classification detection --seed $(SEED) $(ARGS)

docs: $(STAMP) ## build the site of the documentation into site/
	@EXTRAS="$$EXTRAS docs"; $(environment)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel: $(STAMP) ## put this package's wheel (weights inside) and Detectron2's into dist/
	rm -rf build dist
	$(BIN)/pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	$(BIN)/python setup/detectron2_wheel.py --out dist

mtcnn: $(STAMP) ## add MTCNN's package, for --detector mtcnn (without the old PyTorch that it asks for)
	$(BIN)/pip install -q --disable-pip-version-check --no-deps facenet-pytorch==2.6.0

peers: $(STAMP) ## fetch the packages to compare with into .peers (600 MB; needs Node.js and npm for two of them)
	$(BIN)/python -m benchmarks.peers.install

benchmark: peers ## ours and the packages: accuracy and time; FER2013=FILE, FACES=COCO.json, IMAGES=DIR
	$(BIN)/python -m benchmarks.classifiers --data "$$FER2013" --split PrivateTest --classifier $(CLASSIFIERS) \
		--out results/speed_classifiers.json --picture docs/speed_classifiers.png
	$(BIN)/python -m benchmarks.detectors --coco "$$FACES" --images "$$IMAGES" --min-size 16 --detector $(DETECTORS) \
		--out results/speed_detectors.json --picture docs/speed_detectors.png

tables: $(STAMP) ## make docs/results.md, docs/comparison.md and the README's tables from results/
	$(BIN)/python -m eval.tables

figures: $(STAMP) ## make docs/figures from results/; with DATA=DIR also, in OUTPUT, pictures of FER2013's faces
	$(BIN)/python -m eval.figures --photo samples/group.jpg $(if $(DATA),--data "$$DATA" --faces "$$OUTPUT/figures")

systems: $(STAMP) ## train and measure every system of the comparison that is not yet; FER2013=FILE
	$(BIN)/python -m eval.systems --data "$$FER2013"

refresh: $(STAMP) ## measure anew what depends on changed weights, then tables and figures; DATA=DIR of the data sets (data)
	$(BIN)/python -m eval.refresh --data "$${DATA:-data}"

format: $(STAMP) ## put the code into the form that make test asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: ## resolve all packages afresh, write constraints.txt and setup/lock.txt; KEEP=1 only adds what is new
	@$(find_python); "$$python" setup/constraints.py $(if $(KEEP),--keep)

sbom: $(STAMP) ## write the bill of materials of the environment, dist/sbom.json (CycloneDX)
	@EXTRAS="$$EXTRAS supply-chain"; $(environment)
	@mkdir -p dist
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-file dist/sbom.json

licences: $(STAMP) ## list the licences of all packages; fails if one is not allowed in pyproject.toml
	@EXTRAS="$$EXTRAS supply-chain"; $(environment)
	$(BIN)/pip-licenses

audit: $(STAMP) ## look for known vulnerabilities of the locked packages; needs the network
	@EXTRAS="$$EXTRAS supply-chain"; $(environment)
	$(BIN)/pip-audit --disable-pip --require-hashes --requirement setup/lock.txt

clean: ## remove .venv, caches and build files; keeps runs/ and the analyses
	rm -rf .venv .peers .cache build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Sets $python to the first usable interpreter, or ends the recipe with a message.
define find_python
python=; for name in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then python=$$name; break; fi; \
done; \
if [ -z "$$python" ]; then \
	echo "set-up: $(if $(PYTHON),$(PYTHON) is no Python 3.11 or newer.,no Python 3.11 or newer found.)" \
		"On Debian: apt install python3.11 python3.11-venv." \
		"Another one is chosen with make PYTHON=/path/to/python3." >&2; \
	exit 1; \
fi
endef

# Makes the environment, brings it up to date, or returns at once.
define environment
$(find_python); "$$python" setup/environment.py --venv "$(VENV)" --stamp "$(STAMP)" \
	--extras "$$EXTRAS" --torch-index "$$TORCH_INDEX"
endef

$(STAMP): pyproject.toml constraints.txt setup/lock.txt setup/environment.py setup/detectron2_wheel.py
	@$(environment)
