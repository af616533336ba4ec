/*
 * QTest helpers for postcopy with KVM userfault
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef KVM_USERFAULT_UTIL_H
#define KVM_USERFAULT_UTIL_H

#include "libqtest.h"
#include "migration/framework.h"

/* Does this host's KVM have all that the capability needs? */
bool kvm_userfault_supported(void);

/*
 * The KVM of all QEMUs that are started until kvm_userfault_preload_nothing()
 * is changed by @variable of kvm-check-extension.c.
 */
void kvm_userfault_preload(const char *variable, const char *value);
void kvm_userfault_preload_nothing(void);

/* QEMU with @opts says on a line with @needle why it does not start. */
void qtest_check_does_not_start(const char *opts, const char *needle);

/* Which backend caught the destination's faults, as query-migrate says. */
char *migrate_query_fault_backend(QTestState *to);

/* Is the capability set, as query-migrate-capabilities says? */
bool migrate_kvm_userfault_is_on(QTestState *who);

/* One of the backend's counts. */
uint64_t migrate_query_kvm_userfault(QTestState *to, const char *count);

/* Migration to @to, which is over, was by KVM and by KVM userfault. */
void migrate_check_kvm_userfault(QTestState *to);

/* A start hook: in postcopy hardly more comes than what is asked for. */
void *migrate_hook_start_slow_postcopy(QTestState *from, QTestState *to);

/* The guest of these tests writes to all pages of this range, in turns. */
#define GUEST_START 0x100000
#define GUEST_END   (100 * 1024 * 1024)
#define GUEST_PAGE  4096

/*
 * Have @to's main loop read the guest's memory, with the BQL held.  Sooner or
 * later it comes to a page that is missing, and stays there.  In this thread,
 * or in another one.
 */
void main_loop_reads(QTestState *to);
void main_loop_reads_start(QTestState *to);

/* The page has come.  Nothing, if it was not started. */
void main_loop_reads_stop(void);

/* What is refused, and where the capability has no effect. */
void migration_test_add_postcopy_kvm_userfault_refusals(MigrationTestEnv *env);

/* Pages behind those that the guest waits for. */
void migration_test_add_postcopy_kvm_userfault_around(MigrationTestEnv *env);

/* Kicks and slot changes while pages are missing. */
void migration_test_add_postcopy_kvm_userfault_kicks(MigrationTestEnv *env);

/* Answers and ends while somebody waits with the BQL held. */
void migration_test_add_postcopy_kvm_userfault_waits(MigrationTestEnv *env);

/* The primary of a failover pair, which can't be there during postcopy. */
void migration_test_add_postcopy_kvm_userfault_failover(MigrationTestEnv *env);

/* Streams that a good source does not send. */
void migration_test_add_postcopy_kvm_userfault_streams(MigrationTestEnv *env);

/* Huge pages, which come piece by piece. */
void migration_test_add_postcopy_kvm_userfault_hugetlb(MigrationTestEnv *env);

/* Options, and hosts that are not what they claim to be. */
void migration_test_add_postcopy_kvm_userfault_host(MigrationTestEnv *env);

/* Virtqueues whose elements have pages that are missing. */
void migration_test_add_postcopy_kvm_userfault_virtqueue(MigrationTestEnv *env);

#endif /* KVM_USERFAULT_UTIL_H */
