# SPDX-License-Identifier: Apache-2.0
# slabmon: `make help` lists everything.

PYTHON ?= /usr/bin/python3
VENV := .venv
C_FILES := bpf/*.[ch] tests/kmod/*.[ch]
APT_RUN := python3 python3-venv python3-bpfcc ca-certificates
APT_UNIT := gcc libc6-dev jq mandoc zsh fish
APT_BROWSER := chromium
APT_PACKAGING := $(APT_DEB) $(APT_RPM) lintian sosreport
APT_SERVERS := prometheus prometheus-alertmanager victoria-metrics
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-unit fuzz test-vm test-service test-leak test-settings matrix vm-shell venv unit dev check lint \
	format docs manifests dashboards preview bench bench-views bench-report bench-store bench-verdicts bench-daemon bench-scrape bench-scale bench-fleet \
	overhead overhead-docs verdicts verdicts-fast verdicts-auto clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: venv ## Install missing packages and run the daemon in the foreground
	@exec $(VENV)/bin/slabmon serve

test-unit: unit ## Run the unit tests, in less than a minute; needs neither root nor BTF
	$(VENV)/bin/python -m pytest tests/unit -m "not slow" -n auto -q $(PYTEST)

test: dev lint ## Install missing packages, run linters and all tests but test-vm, -service, -leak
	$(VENV)/bin/python -m pytest tests/unit -n auto -q $(PYTEST)
	$(REST) -m "beside and not live" -n 2 $(FILES) $(PYTEST)
	$(REST) -m "not beside" $(PYTEST)
	$(REST) -m "beside and live" -n 4 $(FILES) $(PYTEST)

# A file is one worker's: its tests share servers. Files with few tests do not come last, since these
# take longest.
REST := $(VENV)/bin/python -m pytest tests --ignore tests/unit --ignore tests/vm/test_service.py \
	--ignore tests/servers/test_leak_alert.py
FILES := --dist loadfile --no-loadscope-reorder

fuzz: unit ## Run the property tests with new examples, a thousand of each (EXAMPLES=1000)
	SLABMON_EXAMPLES=$(or $(EXAMPLES),1000) $(VENV)/bin/python -m pytest tests/unit -m hypothesis \
		-n auto --timeout 0

test-vm: dev ## Guest tests on real kernels (KERNEL=6.12 K=expr CPUS=8 JOBS=2; default: all kernels)
	$(VENV)/bin/python -m tests.vm $(KERNEL) $(if $(K),-k '$(K)') $(if $(CPUS),--cpus $(CPUS)) \
		$(if $(JOBS),--jobs $(JOBS))

test-service: dev ## The service on a real systemd in guests: as a Debian package and by make install
	$(VENV)/bin/python -m pytest tests/vm/test_service.py

test-leak: dev ## From a leak on this host's kernel to its alert, in real time (45 minutes)
	$(VENV)/bin/python -m pytest tests/servers/test_leak_alert.py

test-settings: dev ## Guest tests with other boot settings (KERNEL=6.12): slub_debug, 512 MB, no IPv6
	$(SETTING) --kernel-args slub_debug=FZPU --tests "$(SETTINGS)/test_slub_debug.py $(EXACT)"
	$(SETTING) --kernel-args slab_nomerge --tests "$(SETTINGS)/test_slab_nomerge.py $(EXACT)"
	$(SETTING) --kernel-args ipv6.disable=1 --tests $(SETTINGS)/test_ipv6_off.py
	$(SETTING) --memory 512M --tests $(SETTINGS)/test_small_host.py

SETTING = $(VENV)/bin/python -m tests.vm $(or $(KERNEL),6.12)
SETTINGS := tests/vm/settings
EXACT := tests/vm/guest/test_slabmon.py tests/vm/guest/test_census.py

matrix: dev ## Guest tests on all kernels and settings, and drgn's; writes docs/support-matrix.md
	$(VENV)/bin/python -m tests.vm --record
	$(VENV)/bin/python -m tests.vm --record --cpus 8 --tests tests/vm/guest/test_storm.py
	$(VENV)/bin/python -m tests.vm 6.12 --record --nodes 2 --tests tests/vm/guest/test_census.py
	$(VENV)/bin/python -m tests.vm 6.12 --record --debug-info --tests tests/vm/guest/test_drgn.py
	$(MAKE) test-settings
	$(VENV)/bin/python -m tests.vm.matrix > docs/support-matrix.md

vm-shell: dev ## A root shell in a guest (KERNEL=6.12)
	$(VENV)/bin/python -m tests.vm $(or $(KERNEL),6.12) --shell

venv: $(VENV)/.run ## Install Debian packages and slabmon's Python environment

# What tests need: those of tests/unit, and all.
unit: $(VENV)/.unit

dev: $(VENV)/.dev

check: venv ## Show the features of this host and the programs to attach
	@$(VENV)/bin/slabmon check

lint: unit ## Check style, types and licences
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(C_FILES)
	$(VENV)/bin/reuse lint --quiet || { $(VENV)/bin/reuse lint --lines; exit 1; }

format: unit ## Format all sources
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

docs: unit ## Generate metrics, views, configuration, support matrix, manual pages, completions
	$(VENV)/bin/python -m slabmon.export.metrics > docs/metrics.md
	$(VENV)/bin/python -m slabmon.tui.help > docs/views.md
	$(VENV)/bin/python -m slabmon.daemon.options docs > docs/configuration.md
	$(VENV)/bin/python -m slabmon.daemon.options example > systemd/slabmon.toml
	$(VENV)/bin/python -m tests.vm.matrix > docs/support-matrix.md
	$(VENV)/bin/python packaging/manpages.py
	$(VENV)/bin/python packaging/completions.py

manifests: unit ## Render the Helm chart with its defaults (packaging/kubernetes/slabmon.yaml)
	$(PIP) install --upgrade --target build/helm helm-python-sdk==0.2.2
	PYTHONPATH=build/helm $(VENV)/bin/python packaging/kubernetes/render.py

dashboards: unit ## Generate the Grafana dashboards from the metric catalogue (dashboards/*.json)
	$(VENV)/bin/python -m dashboards.generate

preview: dev ## Draw the dashboards by Grafana's components, into docs/images/dashboards (DATA=leaking; needs npm)
	cd dashboards/preview && npm ci --ignore-scripts --no-audit --no-fund && npm run build
	$(VENV)/bin/python -m dashboards.preview $(DATA)

bench: venv ## Time a snapshot on synthetic tables (docs/snapshot.md)
	$(VENV)/bin/python -m benchmarks.snapshot

bench-views: venv ## Time the views of a large host (docs/top.md)
	$(VENV)/bin/python -m benchmarks.views

bench-daemon: venv ## Memory and CPU of the daemon (SECONDS=3600 PAGE=1 HISTORY=file; docs/service.md)
	$(VENV)/bin/python -m benchmarks.daemon $(SECONDS) $(if $(PAGE),--page) $(if $(HISTORY),--history $(HISTORY))

bench-verdicts: venv ## Time the verdict engine on a large host (docs/verdicts.md)
	$(VENV)/bin/python -m benchmarks.verdicts

verdicts-fast: unit ## Score its early findings, into docs/verdicts.md (SEEDS=340-359)
	$(VENV)/bin/python -m tests.scenarios $(or $(SEEDS),340-359) fast

verdicts-auto: unit ## Score the verdict engine where tracking sleeps until something grows (SEEDS=334-336)
	$(VENV)/bin/python -m tests.scenarios $(or $(SEEDS),334-336) auto

verdicts: unit ## Score the verdict engine on all scenarios, into docs/verdicts.md (SEEDS=481-490)
	$(VENV)/bin/python -m tests.scenarios $(or $(SEEDS),481-490)

bench-store: venv ## Time and size of stored snapshots (docs/history.md)
	$(VENV)/bin/python -m benchmarks.store

bench-report: dev ## Time and size of reports of a large host (docs/report.md)
	$(VENV)/bin/python -m benchmarks.report

bench-scrape: venv ## Start, scrapes and memory of the daemon (docs/overhead.md)
	$(VENV)/bin/python -m benchmarks.scrape

bench-scale: dev ## Memory, snapshots and scrapes of larger hosts (docs/overhead.md)
	$(VENV)/bin/python -m benchmarks.scale

bench-fleet: dev ## One Prometheus scraping 200 hosts, and the fleet dashboard (docs/fleet.md)
	$(VENV)/bin/python -m benchmarks.fleet > docs/fleet.json.new
	mv docs/fleet.json.new docs/fleet.json
	$(VENV)/bin/python -m benchmarks.fleet_figures > docs/fleet.md.new
	mv docs/fleet.md.new docs/fleet.md

overhead: dev ## Measure the cost of slabmon and other tools, and write docs/overhead.md
	$(VENV)/bin/slabmon bench --peers --format json > docs/overhead/bench.json
	$(VENV)/bin/python -m benchmarks.scrape > docs/overhead/daemon.json
	$(VENV)/bin/python -m benchmarks.scale > docs/overhead/scale.json
	$(VENV)/bin/python -m benchmarks.overhead

overhead-docs: unit ## Write docs/overhead.md from the results in docs/overhead/
	$(VENV)/bin/python -m benchmarks.overhead

clean: ## Remove the environment and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

include packaging/install.mk

# The second time, only dates are compared.
$(VENV)/.run: requirements.txt pyproject.toml
	$(call need,$(APT_RUN))
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.unit: $(VENV)/.run requirements-dev.txt
	$(call need,$(APT_UNIT))
	$(PIP) install -r requirements-dev.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.unit
	$(call need,$(APT_BROWSER) $(APT_PACKAGING))
	@sh tests/servers/install.sh $(APT_SERVERS)
	@touch $@

need = @missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then $(call apt,$$missing); fi

apt = if [ "$$(id -u)" != 0 ]; then \
	echo "slabmon: error: Debian packages are missing:" $(1) "; run as root: apt-get install" $(1) >&2; exit 3; \
	fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1)
