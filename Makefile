# One command each. Every target sets up what it needs in .venv, and again only when the pins change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
DATA   ?= $(SONOSEEK_DATA)
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

PAGE := src/sonoseek/apps/web/page/index.html
FRONTEND := $(shell find frontend/src frontend/index.html frontend/*.ts frontend/*.js frontend/*.json 2>/dev/null)

.PHONY: map page demo test test-long lint bench bench-gallery docs train train-fast figures networks rescore wording lock licences sbom clean help
help:
	@echo "make demo    phantom archive -> gallery -> ten reports -> the reading room, at an address it prints (no torch)"
	@echo "make page    the reading room's page, from frontend/ (Node 20)"
	@echo "make test    the tests;  make lint  style, types, layers"
	@echo "make test-long  half an hour: a Milvus server, a Ray cluster, 200 killed writers, a power cut at every flush, every backbone"
	@echo "make bench   speed of queries and of index builds"
	@echo "make bench-gallery  galleries of 10,000 to 1,000,000 scans, of this and other engines, into docs/results"
	@echo "make docs    the documentation, into site/"
	@echo "make map     the picture of the packages and its figures, from the imports, into docs/"
	@echo "make train   the default bundle, accurate;  make train-fast  the small one (need SONOSEEK_DATA and start weights;"
	@echo "             see docs/how-to/train.md)"
	@echo "make figures every protocol with every system, into docs/results (hours; continues where it was stopped)"
	@echo "make networks the comparison and the ablations, into docs/results (days without a GPU; continues where it was stopped)"
	@echo "make rescore every figure in docs/results again, from its rows"
	@echo "make wording the wording of reports on the cancers of BUSI and BUS-BRA, into docs/results"
	@echo "make lock    pin the requirements again, from pyproject.toml"
	@echo "make licences the licences of what an installation brings, into docs/reference"
	@echo "make sbom    the wheel and its bill of materials (CycloneDX), into dist/"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Inference: what a hospital installs, without torch.
$(VENV)/.inference: requirements/inference.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements/inference.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Everything: training, evaluation, tools.
$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.inference

# The reading room's page. Its own sources alone decide whether it is built again.
frontend/node_modules/.installed: frontend/package-lock.json
	npm --prefix frontend ci --ignore-scripts --no-progress --loglevel=error
	@touch $@

$(PAGE): frontend/node_modules/.installed $(FRONTEND)
	npm --prefix frontend run --silent build -- --logLevel warn
	@touch $@

page: $(PAGE)

demo: $(VENV)/.inference $(PAGE)
	$(BIN)/sonoseek demo --out demo

test: $(VENV)/.dev $(PAGE)
	npm --prefix frontend run --silent test
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Everything, and the servers and engines that the long tests and the benchmark of galleries talk to.
$(VENV)/.peers: requirements/peers.txt pyproject.toml | $(BIN)/python
	$(PIP) install -r requirements/peers.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.dev $(VENV)/.inference

# What `make test` does by sample or leaves out: half an hour.
test-long: $(VENV)/.peers $(PAGE)
	$(BIN)/python -m pytest -m "long or slow"

lint: $(VENV)/.dev frontend/node_modules/.installed
	npm --prefix frontend run --silent check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.inference
	$(BIN)/sonoseek bench query
	$(BIN)/sonoseek bench ingest

bench-gallery: $(VENV)/.peers
	$(BIN)/python -m benchmarks.gallery --rows 10000 --rows 100000 --rows 1000000

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict

map: $(VENV)/.dev
	$(BIN)/python docs/images/package_map.py

# The default bundle. The protocol trains the same recipe once for each hospital left out: that is what calibrates it.
ACCURATE := b4-frozen
train: $(VENV)/.dev
	$(BIN)/sonoseek evaluate --protocol leave-one-hospital-out --seeds 0 --system recipes/$(ACCURATE).toml
	$(BIN)/sonoseek train recipes/$(ACCURATE).toml --run runs/$(ACCURATE) --resume
	$(BIN)/sonoseek export runs/$(ACCURATE) --out src/sonoseek/bundles/accurate --results docs/results \
	  --calibrate-on leave-one-hospital-out

train-fast: $(VENV)/.dev
	$(BIN)/sonoseek train recipes/phantom-start.toml --run runs/phantom-start --resume
	$(BIN)/sonoseek train recipes/hybrid-teacher-a.toml --run runs/hybrid-teacher-a --resume
	$(BIN)/sonoseek train recipes/hybrid-teacher-b.toml --run runs/hybrid-teacher-b --resume
	$(BIN)/sonoseek train recipes/hybrid-before.toml --run runs/hybrid-before --resume \
	  --teacher runs/hybrid-teacher-a/bundle --teacher runs/hybrid-teacher-b/bundle
	$(BIN)/sonoseek train recipes/hybrid.toml --run runs/hybrid --resume --teacher runs/hybrid-before/bundle

CHEAP := --system nearest-pixels --system radiomics --system frozen-squeezenet
PEERS := $(CHEAP) --system frozen-mobilenet-v2 --system frozen-resnet50-v2
# The student learns from the teachers of the same round: they come first.
OURS   := --system teacher-a --system teacher-b --system outline
figures: $(VENV)/.dev
	$(BIN)/sonoseek evaluate --protocol busi-grouped $(CHEAP) --robustness
	$(BIN)/sonoseek evaluate --protocol busi-grouped $(PEERS)
	$(BIN)/sonoseek evaluate --protocol busi-grouped --system first-hybrid --seeds 0 --robustness
	$(BIN)/sonoseek evaluate --protocol random-split $(PEERS) --system first-hybrid
	$(BIN)/sonoseek evaluate --protocol paper-like $(CHEAP) --system first-hybrid --system small-square-hybrid \
	  --system small-square-long --system small-square-mild
	$(BIN)/sonoseek evaluate --protocol busi-clean $(PEERS)
	$(BIN)/sonoseek evaluate --protocol busi-curated $(PEERS)
	$(BIN)/sonoseek evaluate --protocol busbra-official $(PEERS) --system first-hybrid
	$(BIN)/sonoseek evaluate --protocol external --train-on busi --test-on busbra $(PEERS) --system first-hybrid
	$(BIN)/sonoseek evaluate --protocol external --train-on busbra --test-on busi $(PEERS)
	$(BIN)/sonoseek train recipes/phantom-start.toml --run runs/phantom-start --resume
	$(BIN)/sonoseek evaluate --protocol busi-grouped --seeds 0 $(OURS) --system outline-alone
	$(BIN)/sonoseek evaluate --protocol busbra-official $(OURS)
	$(BIN)/sonoseek evaluate --protocol external --train-on busi --test-on busbra $(OURS) --system outline-alone
	$(BIN)/sonoseek evaluate --protocol external --train-on busbra --test-on busi $(OURS) --system outline-alone

	$(BIN)/sonoseek evaluate --protocol busi-grouped --seeds 0 --system hybrid-alone
	$(BIN)/sonoseek evaluate --protocol explanations --system hybrid-alone

# One network per peer and per part left out, by one recipe on one budget: minutes on a GPU, days on two cores.
NETWORKS := $(patsubst recipes/%.toml,--system %,$(filter-out recipes/peer-base.toml,$(wildcard recipes/peer-*.toml recipes/outline-*.toml)))
networks: $(VENV)/.dev
	$(BIN)/sonoseek train recipes/phantom-start.toml --run runs/phantom-start --resume
	$(BIN)/sonoseek evaluate --protocol busi-grouped --seeds 0 $(NETWORKS)

rescore: $(VENV)/.dev
	$(BIN)/sonoseek evaluate --rescore docs/results

wording: $(VENV)/.inference
	$(BIN)/python benchmarks/wording.py

lock:
	requirements/lock

licences: $(VENV)/.inference
	$(BIN)/python docs/licences.py

# The wheel is installed into an environment of its own, which the bill of materials then lists: what a hospital gets.
sbom: $(VENV)/.inference $(PAGE)
	rm -rf dist .venv-sbom .venv-tools
	$(PIP) wheel --no-deps --no-build-isolation -w dist .
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip --disable-pip-version-check -q install --require-hashes -r requirements/tools.txt
	$(PYTHON) -m venv --without-pip .venv-sbom
	$(PIP) --python .venv-sbom/bin/python install --require-hashes -r requirements/inference.txt
	$(PIP) --python .venv-sbom/bin/python install --no-deps dist/*.whl
	.venv-tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --mc-type application \
	  -o dist/sonoseek.cdx.json .venv-sbom/bin/python
	rm -rf .venv-sbom .venv-tools

clean:
	rm -rf build dist site demo frontend/node_modules src/sonoseek/apps/web/page .pytest_cache .mypy_cache .ruff_cache .hypothesis
