# SPDX-License-Identifier: GPL-2.0-or-later
#
# The way in, as in QEMU: configure first, then ninja does the work.

.PHONY: all
all: configured
	@ninja -C build

# configure remembers its options and does only what has changed.
.PHONY: configured
configured:
	@./configure

# meson.build knows what each test needs, and has it built first.
.PHONY: check
check: configured
	@./scripts/check

.PHONY: check-full
check-full: configured
	@./scripts/check --setup full

# One suite: make check-qtest
check-%: configured
	@./scripts/check --setup full --suite $*

# More than the suite: every patch is built, too.
.PHONY: check-patches
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

# What scripts/build --help lists
PARTS = base-qemu bochs deb-qemu debian-13 debian-13-installed guest guest-cloud \
	libvirt-12 libvirt-13 qemu-asan selftests stock-qemu
.PHONY: $(PARTS)
$(PARTS): configured
	@./scripts/build $@

# Migrations that are drawn: make campaign SEED=1 RUNS=100, or TIME=3600
.PHONY: campaign
campaign: all
	@./host/campaign $(SEED:%=--seed %) $(RUNS:%=--runs %) $(TIME:%=--time %)

# Packages for Debian 13, in build/deb
.PHONY: deb
deb: configured
	@./scripts/build deb-kvm
	@./scripts/build deb-qemu

# What was built, as it is: root needs not build.
PREFIX = /usr/local
DESTDIR = /
.PHONY: install uninstall
install uninstall:
	@./scripts/install $@ --prefix=$(PREFIX) --destdir=$(DESTDIR)

# OPTIONS are those of demo/run.
.PHONY: demo
demo: configured
	@ninja -C build demo-parts
	@./demo/run $(OPTIONS)

# OPTIONS are those of bench/postcopy.
.PHONY: bench
bench: configured
	@ninja -C build bench-parts
	@./bench/postcopy $(OPTIONS)

.PHONY: clean
clean:
	rm -rf build/qemu build/linux-* build/selftests* build/base-build
	rm -rf build/unit-* build/check build/host build/jobs build/results build/stock
	rm -rf build/bochs build/manual build/mypy
	rm -rf build/stock-kernel build/deb build/deb-source
	rm -rf build/guest build/guest-cloud build/demo* build/bench

.PHONY: distclean
distclean:
	rm -rf build

.PHONY: help
help:
	@echo 'make                   build QEMU, the host kernel and its initramfs'
	@echo 'make install           install that QEMU to PREFIX, below DESTDIR'
	@echo 'make uninstall         remove it again'
	@echo 'make check             build, then run the tests'
	@echo 'make check-full        all of them: those that take long, too'
	@echo 'make demo              migrate a guest in two ways, and compare; OPTIONS=--help'
	@echo 'make deb               packages for Debian 13, with its stock kernel: build/deb'
	@echo 'make bench             the long comparison, docs/results.md; OPTIONS=--help'
	@echo 'make check-SUITE       only one suite; CONTRIBUTING.md lists them'
	@echo 'make check-patches     prove that every patch applies, builds and is clean'
	@echo 'make export-patches    write the commits in build/src back to patches/'
	@echo 'make export-series     write what can be mailed to build/mail'
	@echo 'make kernel-NAME       a variant of the host kernel, of: $(basename $(notdir $(wildcard host/configs/*)))'
	@echo 'make kernel-base       the one without the series; kernel-base-NAME: a variant'
	@echo 'make kernel-stock      the one of Debian 13 with the patched KVM; kernel-base-stock: without'
	@echo 'make clean             remove what was built; distclean: everything'
	@echo
	@echo './configure --help     sources of your own, no host'
	@echo 'host/run --help        commands in the emulated host'
