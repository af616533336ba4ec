/*
 * A bad source: what stands between two QEMUs that migrate
 *
 * It reads as much of the stream as it has to know where it is.  The format is
 * that of migration/savevm.c and migration/ram.c, for a guest with nothing but
 * RAM to send before the switch to postcopy, with pages of 4 KiB.
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/sockets.h"
#include "migration/stream-proxy.h"

#define SECTION_EOF 0x00
#define SECTION_START 0x01
#define SECTION_PART 0x02
#define SECTION_END 0x03
#define SECTION_CONFIGURATION 0x07
#define SECTION_COMMAND 0x08
#define SECTION_FOOTER 0x7e

#define COMMAND_PING 2
#define COMMAND_DISCARD 6
#define COMMAND_PACKAGED 7

#define RAM_ZERO 0x002
#define RAM_MEM_SIZE 0x004
#define RAM_PAGE 0x008
#define RAM_EOS 0x010
#define RAM_CONTINUE 0x020
#define RAM_UNKNOWN 0x800
#define RAM_FLAGS 0xfff

/* As in migration/postcopy-commit.c */
#define PING_COMMIT 0x4b554602

#define PAGE_BYTES 4096
#define BEYOND (1ULL << 40)

/* Pages that are sent again; the guest writes to them in the meantime. */
#define REPEATED_PAGES 64

typedef struct PageRecord {
    uint64_t header;
    /* A length and so many characters. */
    uint8_t block[256];
    uint8_t data[PAGE_BYTES];
} PageRecord;

struct StreamProxy {
    StreamFault fault;
    bool armed;
    /* What the destination says does not come to the source any more. */
    bool one_way;
    int source;
    int destination;
    GThread *forward;
    GThread *backward;
    bool postcopy;
    uint32_t section;
    /* The one that comes next; its block is also that of the one before. */
    PageRecord page;
    GArray *repeated;
};

static void break_connection(StreamProxy *proxy)
{
    shutdown(proxy->source, SHUT_RDWR);
    shutdown(proxy->destination, SHUT_RDWR);
}

static G_NORETURN void cut(StreamProxy *proxy)
{
    break_connection(proxy);
    g_thread_exit(NULL);
    g_assert_not_reached();
}

static void pull(StreamProxy *proxy, void *buf, size_t size)
{
    uint8_t *p = buf;

    while (size) {
        ssize_t got = RETRY_ON_EINTR(recv(proxy->source, p, size, 0));

        if (got <= 0) {
            cut(proxy);
        }
        p += got;
        size -= got;
    }
}

static void push(StreamProxy *proxy, const void *buf, size_t size)
{
    const uint8_t *p = buf;

    while (size) {
        ssize_t put = RETRY_ON_EINTR(send(proxy->destination, p, size,
                                          MSG_NOSIGNAL));

        if (put <= 0) {
            cut(proxy);
        }
        p += put;
        size -= put;
    }
}

static void push_be64(StreamProxy *proxy, uint64_t value)
{
    value = cpu_to_be64(value);
    push(proxy, &value, sizeof(value));
}

static void push_be32(StreamProxy *proxy, uint32_t value)
{
    value = cpu_to_be32(value);
    push(proxy, &value, sizeof(value));
}

static void push_byte(StreamProxy *proxy, uint8_t value)
{
    push(proxy, &value, sizeof(value));
}

static void pass(StreamProxy *proxy, size_t size)
{
    uint8_t buf[PAGE_BYTES];

    while (size) {
        size_t part = MIN(size, sizeof(buf));

        pull(proxy, buf, part);
        push(proxy, buf, part);
        size -= part;
    }
}

/* A number of @size bytes. */
static uint64_t pass_number(StreamProxy *proxy, size_t size)
{
    uint8_t buf[sizeof(uint64_t)];

    pull(proxy, buf, size);
    push(proxy, buf, size);
    return ldn_be_p(buf, size);
}

static void pass_string(StreamProxy *proxy)
{
    pass(proxy, pass_number(proxy, 1));
}

static size_t page_bytes(const PageRecord *page)
{
    return page->header & RAM_ZERO ? 1 : PAGE_BYTES;
}

static void push_page(StreamProxy *proxy, const PageRecord *page)
{
    push_be64(proxy, page->header);
    push(proxy, page->block, 1 + page->block[0]);
    push(proxy, page->data, page_bytes(page));
}

static G_NORETURN void push_half_a_page(StreamProxy *proxy)
{
    push_be64(proxy, proxy->page.header);
    push(proxy, proxy->page.block, 1 + proxy->page.block[0]);
    push(proxy, proxy->page.data, page_bytes(&proxy->page) / 2);
    cut(proxy);
}

static G_NORETURN void push_early_end(StreamProxy *proxy)
{
    push_be64(proxy, RAM_EOS);
    push_byte(proxy, SECTION_FOOTER);
    push_be32(proxy, proxy->section);
    push_byte(proxy, SECTION_EOF);
    shutdown(proxy->source, SHUT_RDWR);
    g_thread_exit(NULL);
    g_assert_not_reached();
}

static void spoil_page(StreamProxy *proxy)
{
    PageRecord *page = &proxy->page;

    switch (proxy->fault) {
    case STREAM_CUT_POSTCOPY:
        push_half_a_page(proxy);
    case STREAM_EARLY_END:
        push_early_end(proxy);
    case STREAM_REPEATED_PAGES:
        if (proxy->repeated->len < REPEATED_PAGES) {
            g_array_append_val(proxy->repeated, *page);
        }
        break;
    case STREAM_BEYOND_BLOCK:
        page->header |= BEYOND;
        break;
    case STREAM_UNKNOWN_BLOCK:
        page->block[1] ^= 1;
        break;
    case STREAM_UNKNOWN_FLAGS:
        page->header |= RAM_UNKNOWN;
        break;
    default:
        break;
    }
}

static void pass_page(StreamProxy *proxy, uint64_t header)
{
    PageRecord *page = &proxy->page;

    if (!(header & RAM_CONTINUE)) {
        pull(proxy, page->block, 1);
        pull(proxy, page->block + 1, page->block[0]);
    }
    /* Each page names its block, so that pages can be put in between. */
    page->header = header & ~(uint64_t)RAM_CONTINUE;
    pull(proxy, page->data, page_bytes(page));

    if (proxy->fault == STREAM_CUT_PRECOPY) {
        push_half_a_page(proxy);
    }
    if (proxy->postcopy && qatomic_read(&proxy->armed)) {
        spoil_page(proxy);
    }
    push_page(proxy, page);
}

static void pass_blocks(StreamProxy *proxy, uint64_t total)
{
    while (total) {
        pass_string(proxy);
        total -= pass_number(proxy, 8);
    }
}

static void pass_ram(StreamProxy *proxy)
{
    uint64_t header;

    do {
        pull(proxy, &header, sizeof(header));
        header = be64_to_cpu(header);
        if (header & (RAM_ZERO | RAM_PAGE)) {
            pass_page(proxy, header);
            continue;
        }
        push_be64(proxy, header);
        if (header & RAM_MEM_SIZE) {
            pass_blocks(proxy, header & ~(uint64_t)RAM_FLAGS);
        }
    } while (!(header & RAM_EOS));

    g_assert_cmpint(pass_number(proxy, 1), ==, SECTION_FOOTER);
    pass(proxy, 4);
}

static void push_repeated(StreamProxy *proxy)
{
    for (int i = 0; i < proxy->repeated->len; i++) {
        push_page(proxy, &g_array_index(proxy->repeated, PageRecord, i));
    }
}

static void pass_package(StreamProxy *proxy)
{
    size_t size = pass_number(proxy, 4);

    if (proxy->fault == STREAM_CUT_PACKAGE) {
        pass(proxy, size / 2);
        cut(proxy);
    }
    if (proxy->fault == STREAM_CUT_LISTENING) {
        qatomic_set(&proxy->one_way, true);
        pass(proxy, size);
        cut(proxy);
    }
    pass(proxy, size);
    proxy->postcopy = true;
}

static void pass_ping(StreamProxy *proxy)
{
    uint32_t value;

    pull(proxy, &value, sizeof(value));
    value = be32_to_cpu(value);
    if (value == PING_COMMIT && proxy->fault == STREAM_CUT_COMMIT) {
        cut(proxy);
    }
    if (value == PING_COMMIT && proxy->fault == STREAM_NO_COMMIT) {
        value ^= 1 << 15;
    }
    push_be32(proxy, value);
}

static void pass_command(StreamProxy *proxy)
{
    unsigned int command = pass_number(proxy, 2);
    size_t size = pass_number(proxy, 2);

    if (command == COMMAND_DISCARD && proxy->fault == STREAM_CUT_DISCARD) {
        cut(proxy);
    }
    if (command == COMMAND_PACKAGED) {
        pass_package(proxy);
    } else if (command == COMMAND_PING) {
        pass_ping(proxy);
    } else {
        pass(proxy, size);
    }
}

static void pass_section(StreamProxy *proxy)
{
    uint8_t type;

    pull(proxy, &type, 1);
    if (type == SECTION_EOF && proxy->fault == STREAM_CUT_END) {
        qatomic_set(&proxy->one_way, true);
        push_byte(proxy, type);
        cut(proxy);
    }
    push_byte(proxy, type);

    switch (type) {
    case SECTION_CONFIGURATION:
        pass(proxy, pass_number(proxy, 4));
        break;
    case SECTION_COMMAND:
        pass_command(proxy);
        break;
    case SECTION_START:
        proxy->section = pass_number(proxy, 4);
        pass_string(proxy);
        pass(proxy, 4 + 4);
        pass_ram(proxy);
        break;
    case SECTION_END:
        pass(proxy, 4);
        push_repeated(proxy);
        pass_ram(proxy);
        break;
    case SECTION_PART:
        pass(proxy, 4);
        pass_ram(proxy);
        break;
    case SECTION_EOF:
        break;
    default:
        g_assert_not_reached();
    }
}

/* From the source to the destination. */
static void *forward(void *opaque)
{
    StreamProxy *proxy = opaque;

    if (proxy->fault == STREAM_CUT_HEADER) {
        pass(proxy, 6);
        cut(proxy);
    }
    pass(proxy, 8);
    for (;;) {
        pass_section(proxy);
    }
}

/* The return path. */
static void *backward(void *opaque)
{
    StreamProxy *proxy = opaque;
    uint8_t buf[PAGE_BYTES];
    ssize_t got;

    while ((got = RETRY_ON_EINTR(recv(proxy->destination, buf, sizeof(buf),
                                      0))) > 0) {
        if (qatomic_read(&proxy->one_way)) {
            continue;
        }
        if (send(proxy->source, buf, got, MSG_NOSIGNAL) != got) {
            break;
        }
    }
    shutdown(proxy->source, SHUT_RDWR);
    return NULL;
}

static int socket_pair(int *theirs)
{
    int pair[2];
    int ret = qemu_socketpair(PF_LOCAL, SOCK_STREAM, 0, pair);

    g_assert_cmpint(ret, ==, 0);
    *theirs = pair[1];
    return pair[0];
}

StreamProxy *stream_proxy_new(StreamFault fault, int *source, int *destination)
{
    StreamProxy *proxy = g_new0(StreamProxy, 1);

    proxy->fault = fault;
    proxy->source = socket_pair(source);
    proxy->destination = socket_pair(destination);
    proxy->repeated = g_array_new(false, false, sizeof(PageRecord));
    proxy->forward = g_thread_new("forward", forward, proxy);
    proxy->backward = g_thread_new("backward", backward, proxy);
    return proxy;
}

void stream_proxy_arm(StreamProxy *proxy)
{
    qatomic_set(&proxy->armed, true);
}

unsigned int stream_proxy_repeated(StreamProxy *proxy)
{
    return proxy->repeated->len;
}

void stream_proxy_free(StreamProxy *proxy)
{
    break_connection(proxy);
    g_thread_join(proxy->forward);
    g_thread_join(proxy->backward);
    close(proxy->source);
    close(proxy->destination);
    g_array_unref(proxy->repeated);
    g_free(proxy);
}
