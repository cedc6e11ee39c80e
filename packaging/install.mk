# SPDX-License-Identifier: Apache-2.0
# Installing, removing, packaging. DESTDIR, PREFIX and SYSCONFDIR are respected.

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITS := $(PREFIX)/lib/systemd/system
SHARE := $(PREFIX)/share/slabmon
DOC := $(PREFIX)/share/doc/slabmon
MAN := $(PREFIX)/share/man
# Shells look for completions there; zsh of Debian has a folder for packages beside it.
BASH := $(PREFIX)/share/bash-completion/completions
ZSH ?= $(PREFIX)/share/zsh/site-functions
FISH := $(PREFIX)/share/fish/vendor_completions.d
# Files of `make install`, without the configuration, which belongs to the administrator.
INSTALLED = $(PREFIX)/bin/slabmon $(PREFIX)/lib/slabmon $(UNITS)/slabmon.service $(UNITS)/slabmon.socket \
	$(PREFIX)/lib/sysusers.d/slabmon.conf $(PREFIX)/lib/tmpfiles.d/slabmon.conf $(SHARE) $(DOC) \
	$(MAN)/man1/slabmon.1 $(MAN)/man5/slabmon.toml.5 $(MAN)/man8/slabmon.service.8 $(MAN)/man8/slabmon.socket.8 \
	$(BASH)/slabmon $(ZSH)/_slabmon $(FISH)/slabmon.fish
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' slabmon/__init__.py)
# $(call share,FILES,FOLDER): install files, if there are any.
share = $(if $(1),install -D -m 644 -t "$(DESTDIR)$(SHARE)/$(2)" $(1))
APT_RPM := rpm dpkg-dev
APT_DEB := build-essential dpkg-dev debhelper dh-python
# Services are notified on a running system only, not while staging.
SYSTEMD = test -z "$(DESTDIR)" && test -d /run/systemd/system

.PHONY: install uninstall deb rpm install-package install-files

install: ## Install system-wide (PREFIX=/usr/local DESTDIR=); then systemctl enable --now slabmon
	$(call need,$(APT_RUN) python3-pip)
	install -d "$(DESTDIR)$(PREFIX)/lib/slabmon" "$(DESTDIR)$(PREFIX)/bin"
	$(PYTHON) -m pip --disable-pip-version-check --quiet install --upgrade \
		--target "$(DESTDIR)$(PREFIX)/lib/slabmon" -r requirements.txt
	$(MAKE) --no-print-directory install-package PACKAGES="$(PREFIX)/lib/slabmon"
	# The service may not write there, and would otherwise compile everything at each start.
	$(PYTHON) -m compileall -q -s "$(DESTDIR)" -p / "$(DESTDIR)$(PREFIX)/lib/slabmon/slabmon"
	printf '%s\n' '#!/bin/sh' 'export PYTHONPATH=$(PREFIX)/lib/slabmon PYTHONSAFEPATH=1' \
		'exec $(PYTHON) -m slabmon "$$@"' > "$(DESTDIR)$(PREFIX)/bin/slabmon"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/slabmon"
	$(MAKE) --no-print-directory install-files
	@if $(SYSTEMD); then systemd-sysusers slabmon.conf && systemd-tmpfiles --create slabmon.conf && \
		systemctl daemon-reload; fi

uninstall: ## Stop the service and remove the installed files; /etc/slabmon stays
	@if $(SYSTEMD); then systemctl disable --now slabmon.service || true; fi
	rm -rf $(foreach path,$(INSTALLED),"$(DESTDIR)$(path)")
	@if $(SYSTEMD); then systemctl daemon-reload; fi
	@echo "kept: $(DESTDIR)$(SYSCONFDIR)/slabmon, $(DESTDIR)/var/lib/slabmon and the user slabmon"

install-package: # the Python package with the BPF sources in it, below PACKAGES
	rm -rf "$(DESTDIR)$(PACKAGES)/slabmon"
	find slabmon -name __pycache__ -prune -o -type f -exec \
		install -D -m 644 -T {} "$(DESTDIR)$(PACKAGES)/{}" ';'
	find bpf -type f -exec install -D -m 644 -T {} "$(DESTDIR)$(PACKAGES)/slabmon/{}" ';'

install-files: # unit, users, example configuration, documents, completions, dashboards and rules
	install -d "$(DESTDIR)$(UNITS)" "$(DESTDIR)$(SYSCONFDIR)/slabmon"
	sed 's|@PREFIX@|$(PREFIX)|; s|@SYSCONFDIR@|$(SYSCONFDIR)|' systemd/slabmon.service \
		> "$(DESTDIR)$(UNITS)/slabmon.service"
	chmod 644 "$(DESTDIR)$(UNITS)/slabmon.service"
	install -m 644 systemd/slabmon.socket "$(DESTDIR)$(UNITS)"
	install -D -m 644 -T systemd/slabmon.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/slabmon.conf"
	install -D -m 644 -T systemd/slabmon.tmpfiles "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/slabmon.conf"
	install -D -m 644 -t "$(DESTDIR)$(DOC)" README.md CHANGELOG.md systemd/slabmon.toml docs/*.md
	install -D -m 644 -t "$(DESTDIR)$(DOC)/LICENSES" LICENSES/*.txt
	install -D -m 644 -t "$(DESTDIR)$(DOC)/runbooks" docs/runbooks/*.md
	install -D -m 644 -t "$(DESTDIR)$(DOC)/guides" docs/guides/*.md
	install -D -m 644 -t "$(DESTDIR)$(DOC)/examples" examples/*
	install -D -m 644 -t "$(DESTDIR)$(MAN)/man1" docs/man/slabmon.1
	install -D -m 644 -t "$(DESTDIR)$(MAN)/man5" docs/man/slabmon.toml.5
	install -D -m 644 -t "$(DESTDIR)$(MAN)/man8" docs/man/slabmon.service.8
	ln -sf slabmon.service.8 "$(DESTDIR)$(MAN)/man8/slabmon.socket.8"
	install -D -m 644 -T packaging/completion/slabmon.bash "$(DESTDIR)$(BASH)/slabmon"
	install -D -m 644 -t "$(DESTDIR)$(ZSH)" packaging/completion/_slabmon
	install -D -m 644 -t "$(DESTDIR)$(FISH)" packaging/completion/slabmon.fish
	test -e "$(DESTDIR)$(SYSCONFDIR)/slabmon/slabmon.toml" || \
		install -m 644 systemd/slabmon.toml "$(DESTDIR)$(SYSCONFDIR)/slabmon"
	$(call share,$(wildcard dashboards/*.json),dashboards)
	$(call share,$(filter-out %_test.yml,$(wildcard dashboards/rules/*.yml)),rules)
	$(call share,$(wildcard dashboards/examples/*.*),examples)

deb: ## Build the Debian package, source and binary, in build/; it uses Debian's Python packages
	$(call need,$(APT_DEB))
	@sh packaging/source.sh $(VERSION)
	cp -r packaging/debian build/slabmon-$(VERSION)/debian
	cd build/slabmon-$(VERSION) && dpkg-buildpackage --no-sign

rpm: ## Build the RPM package in build/
	$(call need,$(APT_RPM))
	@sh packaging/source.sh $(VERSION)
	@# --nodeps, because rpm does not know packages of Debian.
	rpmbuild -bb --nodeps packaging/rpm/slabmon.spec --define "upstream_version $(VERSION)" \
		--define "_topdir $(CURDIR)/build/rpmbuild" --define "_sourcedir $(CURDIR)/build" --define "_rpmdir $(CURDIR)/build"
	rm -r build/rpmbuild
