/*
 * QMP requests that the main loop does not get to: unit tests
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "monitor/qmp-unattended.h"
#include "system/ram-wait.h"
#include "../../monitor/monitor-internal.h"
#include "../../monitor/qmp-turn.h"

/* --- What monitor/qmp-unattended.c takes from the rest of the monitor --- */

QemuMutex monitor_lock;
MonitorList mon_list;
IOThread *mon_iothread;
Coroutine *qmp_dispatcher_co;
bool qmp_dispatcher_co_shutdown;
bool ram_wait_active;

/* Answers, in the order in which they were given; NULL for an error. */
static GPtrArray *answers;
static unsigned int wakes;
static unsigned int resumes;
static unsigned int freed;
/* Called when a request is run. */
static void (*while_running)(MonitorQMP *mon);

static QmpCommandList all_commands = QTAILQ_HEAD_INITIALIZER(all_commands);

GMainContext *iothread_get_g_main_context(IOThread *iothread)
{
    /* The default one, which nobody runs */
    return NULL;
}

bool qmp_oob_enabled(MonitorQMP *mon)
{
    return mon->capab[QMP_CAPABILITY_OOB];
}

void qmp_request_free(QMPRequest *req)
{
    freed++;
    qobject_unref(req->req);
    error_free(req->err);
    g_free(req);
}

void monitor_qmp_dispatch(MonitorQMP *mon, QObject *req)
{
    QDict *dict = qobject_to(QDict, req);
    const char *id = dict ? qdict_get_try_str(dict, "id") : NULL;

    if (while_running) {
        while_running(mon);
    }
    g_ptr_array_add(answers, g_strdup(id));
}

void qmp_send_response(MonitorQMP *mon, const QDict *rsp)
{
    g_assert_true(qdict_haskey(rsp, "error"));
    g_ptr_array_add(answers, NULL);
}

void monitor_resume(Monitor *mon)
{
    resumes++;
}

void qmp_dispatcher_co_wake(void)
{
    wakes++;
}

/* --- Helpers --- */

static void not_run(QDict *args, QObject **ret, Error **errp)
{
    g_assert_not_reached();
}

static MonitorQMP *monitor_new(bool oob)
{
    MonitorQMP *mon = g_new0(MonitorQMP, 1);

    mon->common.is_qmp = true;
    mon->common.use_io_thread = true;
    mon->capab[QMP_CAPABILITY_OOB] = oob;
    mon->commands = &all_commands;
    mon->qmp_requests = g_queue_new();
    qemu_mutex_init(&mon->qmp_queue_lock);
    QTAILQ_INSERT_TAIL(&mon_list, &mon->common, entry);
    return mon;
}

static void monitor_free(MonitorQMP *mon)
{
    QTAILQ_REMOVE(&mon_list, &mon->common, entry);
    g_assert_true(g_queue_is_empty(mon->qmp_requests));
    g_assert_null(mon->running);
    g_queue_free(mon->qmp_requests);
    qemu_mutex_destroy(&mon->qmp_queue_lock);
    g_free(mon);
}

static void push(MonitorQMP *mon, QObject *obj, Error *err)
{
    QMPRequest *req = g_new0(QMPRequest, 1);

    req->mon = mon;
    req->req = obj;
    req->err = err;
    QEMU_LOCK_GUARD(&mon->qmp_queue_lock);
    g_queue_push_tail(mon->qmp_requests, req);
}

static void push_command(MonitorQMP *mon, const char *name, const char *id)
{
    push(mon, QOBJECT(qdict_from_jsonf_nofail("{ 'execute': %s, 'id': %s }",
                                              name, id)), NULL);
}

/* As the dispatcher does */
static QMPRequest *dispatcher_take(MonitorQMP *mon)
{
    QEMU_LOCK_GUARD(&mon->qmp_queue_lock);
    return qmp_turn_take(mon, false);
}

static void dispatcher_run_one(MonitorQMP *mon, const char *id)
{
    QMPRequest *req = dispatcher_take(mon);

    g_assert_nonnull(req);
    g_assert_cmpstr(qdict_get_str(qobject_to(QDict, req->req), "id"), ==, id);
    qmp_turn_end(mon);
    qmp_request_free(req);
}

static void begin(void)
{
    answers = g_ptr_array_new_with_free_func(g_free);
    wakes = 0;
    resumes = 0;
    freed = 0;
    ram_wait_active = true;
}

/* @ids: of the answers, one character each, '!' for an error */
static void check_answers(const char *ids)
{
    g_autoptr(GString) seen = g_string_new("");

    for (int i = 0; i < answers->len; i++) {
        g_string_append(seen, g_ptr_array_index(answers, i) ?: "!");
    }
    g_assert_cmpstr(seen->str, ==, ids);
    g_ptr_array_free(answers, true);
    answers = NULL;
}

/* --- Tests --- */

static void test_ram_wait(void)
{
    MonitorQMP *mon = monitor_new(false);

    begin();
    /* The main loop may take it, and then not get to run it. */
    push_command(mon, "query-status", "a");
    g_assert_null(dispatcher_take(mon));
    qmp_unattended_attend();
    g_assert_cmpuint(answers->len, ==, 1);
    g_assert_cmpuint(resumes, ==, 1);
    g_assert_cmpuint(freed, ==, 1);

    /* All is as ever when the RAM wait is off. */
    push_command(mon, "query-status", "b");
    ram_wait_active = false;
    qmp_unattended_attend();
    dispatcher_run_one(mon, "b");
    check_answers("a");
    monitor_free(mon);
}

static void test_commands(void)
{
    static const char *const good[] = {
        "qmp_capabilities", "query-commands", "query-migrate", "query-name",
        "query-status", "query-version", "quit", "migrate-pause",
        "migrate-recover",
    };
    static const char *const bad[] = {
        "stop", "cont", "query-block", "human-monitor-command", "memsave",
    };
    MonitorQMP *mon = monitor_new(false);

    for (int i = 0; i < G_N_ELEMENTS(good); i++) {
        begin();
        push_command(mon, good[i], "a");
        qmp_unattended_attend();
        check_answers("a");
    }
    for (int i = 0; i < G_N_ELEMENTS(bad); i++) {
        begin();
        push_command(mon, bad[i], "a");
        qmp_unattended_attend();
        qmp_unattended_attend();
        g_assert_cmpuint(resumes, ==, 0);
        check_answers("");
        dispatcher_run_one(mon, "a");
    }
    monitor_free(mon);
}

static void test_errors(void)
{
    MonitorQMP *mon = monitor_new(false);
    Error *err = NULL;

    begin();
    push_command(mon, "no-such-command", "a");
    qmp_unattended_attend();
    push(mon, QOBJECT(qdict_from_jsonf_nofail("{ 'id': 'b' }")), NULL);
    qmp_unattended_attend();
    push(mon, QOBJECT(qstring_from_str("query-status")), NULL);
    qmp_unattended_attend();
    error_setg(&err, "not JSON");
    push(mon, NULL, err);
    qmp_unattended_attend();
    g_assert_cmpuint(resumes, ==, 4);
    g_assert_cmpuint(freed, ==, 4);
    check_answers("ab!!");
    monitor_free(mon);
}

static void test_order(void)
{
    MonitorQMP *mon = monitor_new(true), *other = monitor_new(false);

    begin();
    push_command(mon, "query-status", "a");
    push_command(mon, "query-migrate", "b");
    push_command(mon, "stop", "c");
    push_command(mon, "query-status", "d");
    for (int i = 0; i < 5; i++) {
        qmp_unattended_attend();
    }
    g_assert_cmpuint(answers->len, ==, 2);
    g_assert_cmpuint(wakes, >, 0);
    /* Nobody waits for another monitor. */
    push_command(other, "query-status", "x");
    qmp_unattended_attend();
    g_assert_cmpuint(resumes, ==, 1);
    dispatcher_run_one(mon, "c");
    qmp_unattended_attend();
    check_answers("abxd");
    monitor_free(mon);
    monitor_free(other);
}

/* The dispatcher is inside a command. */
static void test_turn(void)
{
    MonitorQMP *mon = monitor_new(true);
    QMPRequest *req;

    begin();
    push_command(mon, "query-block", "a");
    push_command(mon, "query-status", "b");
    req = dispatcher_take(mon);
    g_assert_nonnull(req);
    qmp_unattended_attend();
    qmp_unattended_attend();
    g_assert_cmpuint(answers->len, ==, 0);
    qmp_turn_end(mon);
    qmp_request_free(req);
    qmp_unattended_attend();
    check_answers("b");
    monitor_free(mon);
}

/* The dispatcher has taken one, and then the RAM wait comes. */
static void test_settled(void)
{
    MonitorQMP *mon = monitor_new(false), *other = monitor_new(true);
    QMPRequest *req, *block;

    begin();
    ram_wait_active = false;
    push_command(mon, "query-status", "a");
    push_command(other, "query-block", "b");
    req = dispatcher_take(mon);
    block = dispatcher_take(other);
    ram_wait_active = true;
    g_assert_false(qmp_unattended_settled());
    qmp_turn_end(mon);
    qmp_request_free(req);
    /* The other one is the main loop's in any case. */
    g_assert_true(qmp_unattended_settled());
    qmp_turn_end(other);
    qmp_request_free(block);

    /* What nobody has taken is mon_iothread's. */
    push_command(mon, "query-status", "c");
    g_assert_true(qmp_unattended_settled());
    qmp_unattended_attend();
    g_assert_true(qmp_unattended_settled());
    check_answers("c");
    monitor_free(mon);
    monitor_free(other);
}

static void dispatcher_comes_by(MonitorQMP *mon)
{
    g_assert_null(dispatcher_take(mon));
}

/* The dispatcher goes on while a request is run here. */
static void test_other_turn(void)
{
    MonitorQMP *mon = monitor_new(true);

    begin();
    push_command(mon, "query-status", "a");
    push_command(mon, "stop", "b");
    while_running = dispatcher_comes_by;
    qmp_unattended_attend();
    while_running = NULL;
    /* It is told, for it passed by. */
    g_assert_cmpuint(wakes, >, 0);
    dispatcher_run_one(mon, "b");
    check_answers("a");
    monitor_free(mon);
}

/* With out-of-band commands, reading stops when the queue is full. */
static void test_full(void)
{
    MonitorQMP *mon = monitor_new(true);

    begin();
    for (int i = 0; i < QMP_REQ_QUEUE_LEN_MAX; i++) {
        push_command(mon, "query-status", "a");
    }
    for (int i = 0; i < QMP_REQ_QUEUE_LEN_MAX; i++) {
        qmp_unattended_attend();
    }
    g_assert_cmpuint(answers->len, ==, QMP_REQ_QUEUE_LEN_MAX);
    g_assert_cmpuint(resumes, ==, 1);
    check_answers("aaaaaaaa");
    monitor_free(mon);
}

static void test_others(void)
{
    MonitorQMP *mon = monitor_new(false);
    Monitor hmp = { .use_io_thread = true };

    begin();
    QTAILQ_INSERT_HEAD(&mon_list, &hmp, entry);
    push_command(mon, "query-status", "a");
    /* Its requests come in the main loop, so nobody else may look at it. */
    mon->common.use_io_thread = false;
    qmp_unattended_attend();
    g_assert_cmpuint(answers->len, ==, 0);
    dispatcher_run_one(mon, "a");
    mon->common.use_io_thread = true;
    push_command(mon, "query-status", "a");
    /* QEMU is about to end. */
    qmp_dispatcher_co_shutdown = true;
    qmp_unattended_attend();
    g_assert_cmpuint(answers->len, ==, 0);
    qmp_dispatcher_co_shutdown = false;
    qmp_unattended_attend();
    check_answers("a");
    QTAILQ_REMOVE(&mon_list, &hmp, entry);
    monitor_free(mon);
}

/* --- The main loop comes and goes --- */

#define RACE_REQUESTS 6000

typedef struct Race {
    MonitorQMP *mon;
    unsigned int next;
    unsigned int by_dispatcher;
    bool running;
} Race;

static Race race;

/* One at a time, in order, once. */
static void race_run(const QMPRequest *req)
{
    QDict *dict = qobject_to(QDict, req->req);

    g_assert_false(qatomic_xchg(&race.running, true));
    g_assert_cmpint(qdict_get_int(dict, "id"), ==, race.next);
    qatomic_set(&race.next, race.next + 1);
    qatomic_set(&race.running, false);
}

static void race_while_running(MonitorQMP *mon)
{
    g_assert_false(qatomic_xchg(&race.running, true));
    qatomic_set(&race.next, race.next + 1);
    qatomic_set(&race.running, false);
}

static void *race_dispatcher(void *opaque)
{
    while (qatomic_read(&race.next) < RACE_REQUESTS) {
        QMPRequest *req = dispatcher_take(race.mon);

        if (req) {
            race_run(req);
            race.by_dispatcher++;
            qmp_turn_end(race.mon);
            qobject_unref(req->req);
            g_free(req);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void test_race(void)
{
    unsigned int pushed = 0;
    QemuThread thread;

    begin();
    race = (Race) { .mon = monitor_new(true) };
    while_running = race_while_running;
    qemu_thread_create(&thread, "dispatcher", race_dispatcher, NULL,
                       QEMU_THREAD_JOINABLE);
    while (pushed < RACE_REQUESTS) {
        bool full;

        WITH_QEMU_LOCK_GUARD(&race.mon->qmp_queue_lock) {
            full = race.mon->qmp_requests->length == QMP_REQ_QUEUE_LEN_MAX;
        }
        if (!full) {
            push(race.mon, QOBJECT(qdict_from_jsonf_nofail(
                     "{ 'execute': %s, 'id': %d }",
                     pushed % 3 ? "query-status" : "stop", pushed)), NULL);
            pushed++;
        }
        if (pushed % 1000 == 0) {
            /* One that was claimed may become the dispatcher's. */
            qatomic_set(&ram_wait_active, pushed % 2000);
        }
        qmp_unattended_attend();
        if (full) {
            sched_yield();
        }
    }
    while (qatomic_read(&race.next) < RACE_REQUESTS) {
        qmp_unattended_attend();
    }
    qemu_thread_join(&thread);
    while_running = NULL;
    g_assert_cmpuint(race.next, ==, RACE_REQUESTS);
    g_assert_cmpuint(race.by_dispatcher + answers->len, ==, RACE_REQUESTS);
    g_test_message("%u by the dispatcher, %u here", race.by_dispatcher,
                   answers->len);
    g_ptr_array_free(answers, true);
    monitor_free(race.mon);
}

static void add_command(const char *name, QmpCommandOptions options)
{
    qmp_register_command(&all_commands, name, not_run, options, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu_mutex_init(&monitor_lock);
    QTAILQ_INIT(&mon_list);
    mon_iothread = (IOThread *)&mon_list;
    qmp_unattended_start();

    add_command("qmp_capabilities", QCO_ALLOW_PRECONFIG);
    add_command("query-commands", QCO_ALLOW_PRECONFIG);
    add_command("query-migrate", 0);
    add_command("query-name", QCO_ALLOW_PRECONFIG);
    add_command("query-status", QCO_ALLOW_PRECONFIG);
    add_command("query-version", QCO_ALLOW_PRECONFIG);
    add_command("quit", QCO_ALLOW_PRECONFIG);
    add_command("migrate-pause", QCO_ALLOW_OOB);
    add_command("migrate-recover", QCO_ALLOW_OOB);
    add_command("stop", 0);
    add_command("cont", 0);
    add_command("query-block", QCO_ALLOW_PRECONFIG);
    add_command("human-monitor-command", 0);
    add_command("memsave", 0);

    g_test_add_func("/qmp-unattended/ram-wait", test_ram_wait);
    g_test_add_func("/qmp-unattended/commands", test_commands);
    g_test_add_func("/qmp-unattended/errors", test_errors);
    g_test_add_func("/qmp-unattended/order", test_order);
    g_test_add_func("/qmp-unattended/settled", test_settled);
    g_test_add_func("/qmp-unattended/turn", test_turn);
    g_test_add_func("/qmp-unattended/other-turn", test_other_turn);
    g_test_add_func("/qmp-unattended/full", test_full);
    g_test_add_func("/qmp-unattended/others", test_others);
    g_test_add_func("/qmp-unattended/race", test_race);
    return g_test_run();
}
