# Everything that people and CI do with this repository. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help run test test-webui check bench schema

LMSTUDIO_URL ?= http://localhost:1234/v1
LISTEN ?= 127.0.0.1:8080
VENV := .venv
CLIENTS := tests/clients
WEBUI := .webui
# The build's own tools: cmake, where the machine has none, is put into .venv by `toolchain`.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: toolchain $(VENV)/agents.stamp ## Build and start the gateway; with LM Studio when it runs, else with the built-in demo model
	@cargo build --release --bins $(features)
	export LMSTUDIO_URL='$(LMSTUDIO_URL)'
	if model=$$($(first_model)); then
	  export MOONGATE_MODEL="$${MOONGATE_MODEL:-$$model}"
	  echo "moongate: LM Studio answers at $(LMSTUDIO_URL); it and the agents are now at http://$(LISTEN)/v1"
	else
	  export MOONGATE_UPSTREAM=demo MOONGATE_MODEL=demo
	  echo "moongate: no LM Studio at $(LMSTUDIO_URL), so the built-in demo model answers at http://$(LISTEN)/v1"
	fi
	echo "  curl http://$(LISTEN)/v1/models"
	echo "  curl -N http://$(LISTEN)/v1/chat/completions -H 'content-type: application/json' \\"
	echo "    -d '{\"model\": \"assistant\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
	exec target/release/moongate serve --config config/gateway.yaml --listen $(LISTEN)

test: toolchain redis $(VENV)/clients.stamp $(CLIENTS)/node_modules/clients.stamp ## Install what the tests need, run all of them
	@log=target/test.log
	mkdir -p target
	status=0
	cargo test --release --no-fail-fast $(features) 2>&1 | tee "$$log" || status=$$?
	echo
	awk '/^test result:/ { passed += $$4; failed += $$6; ignored += $$8 }
	  /^test .* FAILED$$/ { names = names "\n  " $$2 }
	  END { printf "%d passed, %d failed, %d ignored%s\n", passed, failed, ignored, names }' "$$log"
	exit $$status

test-webui: toolchain $(WEBUI)/webui.stamp ## Drive a real Open WebUI by a headless browser; new pictures with PICTURES=docs/screenshots
	@if [ -z "$${MOONGATE:-}" ]; then cargo build --release --bins $(features); fi
	$(WEBUI)/venv/bin/python tests/webui/test_webui.py $(WEBUI)/run "$${MOONGATE:-target/release/moongate}" $(WEBUI)/venv/bin/open-webui

check: toolchain ## Format, lints, the house's own rules
	@cargo fmt --check
	cargo clippy --release --all-targets $(features) -- -D warnings
	cargo test --release $(features) --test it tidy

bench: toolchain $(VENV)/agents.stamp ## Measure what the gateway costs; options in BENCH="--pairs 41"
	@cargo bench --bench load $(features) -- $(BENCH)

schema: toolchain ## Print the JSON Schema of the configuration
	@cargo run --release --quiet --bin moongate -- schema

# The first model of LM Studio that can chat; fails when nobody answers. Python asks: it is there wherever the tests are, curl is not.
define first_model
python3 -c '
	import json, sys, urllib.request as request
	direct = request.build_opener(request.ProxyHandler({}))
	models = [model["id"] for model in json.load(direct.open(sys.argv[1], timeout=2))["data"]]
	print(next((model for model in models if "embed" not in model), ""))
	' '$(LMSTUDIO_URL)/models' 2> /dev/null
endef

# Python agents need a libpython to embed: without one, everything else is built and such agents say that they cannot run.
define has_libpython
python3 -c '
	import os, sys, sysconfig
	name, folder = sysconfig.get_config_var("LDLIBRARY") or "", sysconfig.get_config_var("LIBDIR") or ""
	shared = name.endswith((".so", ".dylib")) and os.path.exists(os.path.join(folder, name))
	sys.exit(not (shared and sys.version_info >= (3, 10)))
	' 2> /dev/null
endef
features = $$($(has_libpython) && echo "--features python")

# What the build needs of the machine; says what to install, installs what it may.
.PHONY: toolchain
toolchain:
	@command -v cargo > /dev/null || { echo "moongate needs Rust: https://rustup.rs"; exit 1; }
	command -v python3 > /dev/null || { echo "moongate needs Python 3 (Debian: apt-get install python3 python3-venv)"; exit 1; }
	command -v cc > /dev/null || $(call install,a C compiler,gcc libc6-dev)
	if ! command -v cmake > /dev/null; then
	  echo "no cmake here: putting one into $(VENV)"
	  test -x $(VENV)/bin/python || { $(need_venv); python3 -m venv $(VENV); }
	  $(VENV)/bin/pip install --quiet --disable-pip-version-check cmake==4.1.2
	fi

# A real Redis and a Sentinel, which the tests start and stop themselves.
.PHONY: redis
redis:
	@command -v redis-server redis-cli redis-sentinel > /dev/null && exit 0
	export RUNLEVEL=1 # the packages' own service is not started where that can be helped
	$(call install,Redis with a Sentinel,redis-server redis-sentinel)

# Debian packages for root, words for everybody else: $(call install,what,packages)
define install
{ if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
    echo "installing $(2)"; apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(2) > /dev/null; \
  else echo "moongate needs $(1). On Debian or Ubuntu: sudo apt-get install $(2)"; exit 1; fi; }
endef

need_venv = python3 -c 'import ensurepip, venv' 2> /dev/null || $(call install,Python's venv module,python3-venv)

$(VENV)/agents.stamp: $(CLIENTS)/requirements.txt | toolchain
	@$(need_venv)
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $$(grep '^openai-agents==' $<)
	touch $@

$(VENV)/clients.stamp: $(CLIENTS)/requirements.txt | toolchain
	@$(need_venv)
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

$(CLIENTS)/node_modules/clients.stamp: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json | toolchain
	@command -v npm > /dev/null || $(call install,Node.js 20 or newer with npm,nodejs npm)
	cd $(CLIENTS)
	npm ci --no-audit --no-fund --loglevel=error
	touch node_modules/clients.stamp

# Open WebUI and a browser, 1.7 GB. As listed, without what pip would add: torch is several gigabytes more, and nobody asks for it here.
$(WEBUI)/webui.stamp: tests/webui/requirements.txt | toolchain
	@$(need_venv)
	python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "Open WebUI needs Python 3.11 or 3.12"; exit 1; }
	echo "installing Open WebUI into $(WEBUI)"
	test -x $(WEBUI)/venv/bin/python || python3 -m venv $(WEBUI)/venv
	$(WEBUI)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	[ -n "$${CHROMIUM:-}" ] || command -v chromium chromium-browser google-chrome > /dev/null || $(call install,Chromium,chromium)
	touch $@
