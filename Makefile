# SPDX-License-Identifier: GPL-2.0-or-later
#
# The way in, as in QEMU: configure first, then ninja does the work.

SUITES = base patches host qtest

.PHONY: all
all: configured
	@ninja -C build

# configure remembers its options and does only what has changed.
.PHONY: configured
configured:
	@./configure

.PHONY: check
check: all
	@./scripts/check

.PHONY: $(SUITES:%=check-%)
$(filter-out check-patches,$(SUITES:%=check-%)): check-%: all
	@./scripts/check --suite $*

# More than the suite: every patch is built, too.
check-patches: configured
	@./scripts/patches check

.PHONY: export-patches
export-patches:
	@./scripts/patches export

# A variant of the host's kernel: make kernel-nouffd, make kernel-debug
kernel-%: configured
	@./host/build-kernel $*

.PHONY: clean
clean:
	rm -rf build/qemu build/linux-* build/check build/host build/jobs build/results

.PHONY: distclean
distclean:
	rm -rf build

.PHONY: help
help:
	@echo 'make                   build QEMU, the host kernel and its initramfs'
	@echo 'make check             build, then run all tests'
	@echo 'make check-SUITE       only one suite of: $(SUITES)'
	@echo 'make check-patches     prove that every patch applies, builds and is clean'
	@echo 'make export-patches    write the commits in build/src back to patches/'
	@echo 'make kernel-NAME       a variant of the host kernel, of: $(basename $(notdir $(wildcard host/configs/*)))'
	@echo 'make clean             remove what was built; distclean: everything'
	@echo
	@echo './configure --help     sources of your own, no host'
	@echo 'host/run --help        commands in the emulated host'
