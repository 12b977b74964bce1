PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
# One thread: small tensors run many times slower when two OpenMP teams spin on the same cores.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# Tests run on one thread each, in as many processes: make test PROCESSES=8. Each file stays in one, so that its fixtures are made once.
PROCESSES ?= 2
SHARED := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup tools system test kernels shapes fuzz lint wheel results gpu gpu-build kills graph docs picture sanitize demo web browser clean

help:  ## this text
	@echo "make TARGET, on a fresh machine too:"
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST)

setup: $(READY)  ## install the program into .venv and fetch the model files (once; 420 MB)

$(READY): setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(MAKE) --no-print-directory system
	@echo "Installing PyTorch and the other packages into $(VENV); this takes some minutes ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . tensorboard
	-$(BIN)/python -m deja_vu.io.assets
	touch $@

tools: $(TOOLS)  ## install what tests, lint and documentation need besides (200 MB); their targets do it themselves

$(TOOLS): $(READY)
	@echo "Installing what tests, lint and documentation need ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

system:
	@for name in c++ g++ clang++; do if command -v $$name >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >/dev/null; \
	else \
	    echo "A C++ compiler is missing. Install one, on Debian or Ubuntu: sudo apt-get install -y g++"; \
	fi

test: $(TOOLS)  ## run the tests, in PROCESSES=2 at once; pages are opened in Chromium, which is installed first where that may be
	@$(MAKE) --no-print-directory browser
	$(ONE_THREAD) $(BIN)/python -m pytest -rs $(SHARED)

kernels: $(TOOLS)  ## test the fused kernels without a GPU; installs Triton first (1 GB), where that may be
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt triton
	$(ONE_THREAD) $(BIN)/python -m pytest -rs tests/kernels

CHECKED := deja_vu,beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
SHAPED := core heads uv render losses nets avatars motion training io bench report viewer \
	datasets/test_prior_examples.py datasets/test_shards.py export/test_frames.py export/test_rig.py export/test_splats.py export/test_web.py \
	$(addprefix tracking/test_,crop.py landmarks.py letterbox.py masks.py matte.py matte_check.py photo.py silhouette.py solver.py tracker.py people.py quality.py) \
	$(addprefix pipelines/test_,personalize.py export.py drive.py reconstruct.py person.py generalize.py generalize_field.py devices.py)
UNSHAPED := not interrupted and not ctrl_c and not two_processes and not made_up_people_are_cropped and not too_short and not fills_the_picture and not same_recipe

shapes: $(TOOLS)  ## run tests of every room with shapes and types of every call checked; those of browsers, of processes and of patience not
	$(ONE_THREAD) $(BIN)/python -m pytest $(SHARED) '--jaxtyping-packages=$(CHECKED)' $(addprefix tests/,$(SHAPED)) -k '$(UNSHAPED)'

fuzz: $(TOOLS)  ## read FILES=100000 damaged files of every kind; any that ends in more than a refusal is named, and can be made again
	$(ONE_THREAD) $(BIN)/python -m tests.fuzz --files $(or $(FILES),100000)

lint: $(TOOLS)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

results: $(READY)  ## write the table in README again from docs/results
	$(BIN)/python -m deja_vu.report.readme_table

gpu: $(TOOLS)  ## prove and measure everything on this machine's GPU, into docs/results/gpu_*.json; DRY=1 tries it out on a CPU; TRACK=folder
	$(BIN)/python -m deja_vu.pipelines.prove_gpu $(if $(DRY),--dry --out build) $(if $(TRACK),--track "$(TRACK)")
	$(if $(DRY),,$(BIN)/python -m pytest -m gpu)

GPU_VENV := build/gpu_venv
GPU_TORCH ?= torch==2.13.0
GPU_CUDA ?= 13.0
GPU_ARCHITECTURES ?= 8.0;9.0
GPU_JOBS ?= 1
GPU_COMPILER := nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-cccl
GSPLAT := gsplat-1.5.3
GPU_PIP := $(GPU_VENV)/bin/python -m pip --disable-pip-version-check

gpu-build:  ## build a wheel of gsplat with its kernels for A100 and H100, where no GPU is needed: GPU_JOBS=8, GPU_TORCH=torch==X, GPU_CUDA=13.0
	test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	$(GPU_PIP) install --quiet "$(GPU_TORCH)" $(foreach name,$(GPU_COMPILER),"$(name)==$(GPU_CUDA).*") ninja setuptools wheel packaging numpy
	@$(GPU_VENV)/bin/python -c 'import sys, torch; torch.version.cuda == "$(GPU_CUDA)" or sys.exit( \
	    f"{torch.__version__} is not built for CUDA $(GPU_CUDA): give GPU_TORCH a wheel that is, or GPU_CUDA its own version.")'
	@export CUDA_HOME="$$($(GPU_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu$(basename $(GPU_CUDA))"; \
	export TORCH_CUDA_ARCH_LIST="$(GPU_ARCHITECTURES)" MAX_JOBS=$(GPU_JOBS); \
	ln -sf "$$(cd "$$CUDA_HOME/lib" && ls libcudart.so.* | head -1)" "$$CUDA_HOME/lib/libcudart.so"; \
	test -d build/$(GSPLAT) || { $(GPU_PIP) download --quiet --no-deps --no-build-isolation --no-binary gsplat --dest build \
	    $(subst -,==,$(GSPLAT)) && tar -xzf build/$(GSPLAT).tar.gz -C build; }; \
	cd build/$(GSPLAT) && "$(abspath $(GPU_VENV))/bin/python" setup.py --quiet bdist_wheel --dist-dir ..
	@ls build/$(GSPLAT)-*.whl

kills: $(TOOLS)  ## kill every stage at 20 random moments, go on, and compare with a run that nobody killed (an hour; STAGES="track report" for some)
	$(ONE_THREAD) $(BIN)/python -m tests.robustness.kills $(STAGES)

graph: $(TOOLS)  ## draw the rooms and who imports whom, as a Mermaid diagram
	@$(BIN)/python -m tests.helpers.import_graph

docs: $(TOOLS)  ## build the documentation as a site, in build/site
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

picture: $(READY)  ## make the moving picture of README again, from what `make demo` left in runs/demo
	$(BIN)/python -m deja_vu.pipelines.bake.picture runs/demo docs/images/avatar.webp

WHEEL_VENV := build/wheel_venv

wheel: $(READY)  ## build the wheel, install it into an empty environment, and let `deja-vu doctor` say whether it works there
	rm -rf build/wheel $(WHEEL_VENV)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(WHEEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt build/wheel/*.whl
	cd build/wheel && ../../$(WHEEL_VENV)/bin/deja-vu doctor

SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g -DDEJA_VU_EXACT_MEMORY

sanitize: $(TOOLS)  ## run the native code's tests under AddressSanitizer and UBSanitizer (gcc)
	CXX="$(CXX)" XDG_CACHE_HOME="$(CURDIR)/.sanitize" DEJA_VU_CXXFLAGS="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=8 $(ONE_THREAD) \
	    LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	    $(BIN)/python -m pytest -p no:cacheprovider tests/render tests/losses/test_photometric.py tests/uv

demo: $(READY)  ## make an avatar of a sample subject, or of VIDEO=me.mp4, in runs/demo; OVERWRITE=1 replaces an earlier one
	$(BIN)/deja-vu demo --out runs/demo $(if $(VIDEO),--video "$(VIDEO)") $(if $(OVERWRITE),--overwrite)

APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20

browser:  ## install Chromium, with which tests open the pages (Debian, as root); says so where it cannot
	@for name in chromium chromium-browser google-chrome; do if command -v $$name >/dev/null; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Chromium, in which tests open the pages ..."; \
	    $(APT) update || true; \
	    if $(APT) install -y --no-install-recommends chromium >/dev/null; then exit 0; fi; \
	    echo "Chromium could not be installed (see above)."; \
	fi; \
	echo "There is no Chromium here, so the tests that open pages will be skipped. To run them: sudo apt-get install -y chromium"

web:  ## build the page of `deja-vu export --format web` again (needs npm; the result is committed)
	cd deja_vu/export/player && npm ci --ignore-scripts && npm run build

clean:  ## remove .venv and what building and testing left; keeps runs/
	rm -rf $(VENV) .sanitize build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis deja_vu/native/libdeja_vu.so deja_vu/export/player/node_modules
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
