# SPDX-License-Identifier: GPL-2.0-or-later
#
# The way in, as in QEMU: configure first, then ninja does the work.

SUITES = base patches unit host kernel kernel-full intel qtest qtest-full link \
         link-full oracle demo demo-full

.PHONY: all
all: configured
	@ninja -C build

# configure remembers its options and does only what has changed.
.PHONY: configured
configured:
	@./configure

.PHONY: check
check: all kernel-nouffd guest
	@./scripts/check

.PHONY: check-full
check-full: all kernel-base kernel-debug kernel-nouffd stock-qemu guest \
            guest-cloud bochs
	@./scripts/check --setup full

.PHONY: $(SUITES:%=check-%)
check-intel: bochs
check-kernel-full: kernel-base kernel-debug
check-qtest check-qtest-full: kernel-nouffd
check-qtest-full: kernel-base stock-qemu
check-link check-link-full check-oracle: guest
check-demo-full: guest-cloud
$(filter-out check-patches,$(SUITES:%=check-%)): check-%: all
	@./scripts/check --setup full --suite $*

# More than the suite: every patch is built, too.
check-patches: configured
	@./scripts/patches check
	@[ ! -d build/src/linux ] || ./linux-headers/check-uapi

.PHONY: export-patches
export-patches:
	@./scripts/patches export

# Both series with cover letters, and QEMU's with the overlay in it
.PHONY: export-series
export-series: configured
	@./scripts/patches mail

# A variant of the host's kernel: make kernel-nouffd, make kernel-debug
kernel-%: configured
	@./scripts/build kernel $*

# Debian's own build of the base, for tests
.PHONY: stock-qemu
stock-qemu: configured
	@./scripts/build stock-qemu

# The emulator of the Intel host
.PHONY: bochs
bochs: configured
	@./scripts/build bochs

# The guests that are migrated: Debian's kernels, and an init of our own
.PHONY: guest guest-cloud
guest: configured
	@./scripts/build guest
guest-cloud: configured
	@./scripts/build guest-cloud

# The base without the fork, to compare with
.PHONY: base-qemu
base-qemu: configured
	@./scripts/build base-qemu

# What is migrated, and where; no tests.
.PHONY: demo-parts
demo-parts: configured guest-cloud
	@ninja -C build demo-parts

# OPTIONS are those of demo/run.
.PHONY: demo
demo: demo-parts
	@./demo/run $(OPTIONS)

# OPTIONS are those of bench/postcopy.
.PHONY: bench
bench: demo-parts base-qemu
	@./bench/postcopy $(OPTIONS)

.PHONY: clean
clean:
	rm -rf build/qemu build/linux-* build/selftests* build/unpatched
	rm -rf build/unit-* build/check build/host build/jobs build/results build/stock
	rm -rf build/bochs build/mypy
	rm -rf build/guest build/guest-cloud build/demo* build/bench

.PHONY: distclean
distclean:
	rm -rf build

.PHONY: help
help:
	@echo 'make                   build QEMU, the host kernel and its initramfs'
	@echo 'make check             build, then run the tests'
	@echo 'make check-full        all of them: those that take long, too'
	@echo 'make demo              migrate a guest in two ways, and compare; OPTIONS=--help'
	@echo 'make bench             the long comparison, docs/results.md; OPTIONS=--help'
	@echo 'make check-SUITE       only one suite of: $(SUITES)'
	@echo 'make check-patches     prove that every patch applies, builds and is clean'
	@echo 'make export-patches    write the commits in build/src back to patches/'
	@echo 'make export-series     write what can be mailed to build/mail'
	@echo 'make kernel-NAME       a variant of the host kernel, of: $(basename $(notdir $(wildcard host/configs/*)))'
	@echo 'make kernel-base       the one without the series; kernel-base-NAME: a variant'
	@echo 'make clean             remove what was built; distclean: everything'
	@echo
	@echo './configure --help     sources of your own, no host'
	@echo 'host/run --help        commands in the emulated host'
