/*
 * QTest testcases for postcopy migration with KVM userfault: virtqueues whose
 * elements have pages that are missing
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qemu/bswap.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "migration/framework.h"
#include "migration/kvm-userfault-util.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"
#include "standard-headers/linux/input.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_gpu.h"
#include "standard-headers/linux/virtio_input.h"
#include "standard-headers/linux/virtio_net.h"
#include "standard-headers/linux/virtio_ring.h"

#define PREFIX "/migration/postcopy-kvm-userfault/virtqueue/"

/* Where q35 keeps PCI's configuration ports */
#define PCI_ADDRESS 0xcf8
#define PCI_DATA    0xcfc
#define SLOT        0x10

/* A modern virtio device's registers, and where they are in QEMU's BAR 4 */
#define COMMON_DRIVER_FEATURE_SELECT    0x08
#define COMMON_DRIVER_FEATURE           0x0c
#define COMMON_STATUS                   0x14
#define COMMON_QUEUE_SELECT             0x16
#define COMMON_QUEUE_SIZE               0x18
#define COMMON_QUEUE_ENABLE             0x1c
#define COMMON_QUEUE_DESC               0x20
#define COMMON_QUEUE_DRIVER             0x28
#define COMMON_QUEUE_DEVICE             0x30
#define NOTIFY                          0x3000

#define QUEUE_SIZE  16

/*
 * The guest of these tests writes to the first byte of each page below 100 MB
 * forever, so these pages are missing when it runs in the destination.  What
 * is behind is a driver's that has stopped: rings, and what nobody writes to.
 */
#define MiB         (1024 * 1024)
#define MISSING     (60 * MiB + 512)
#define TABLE       (70 * MiB + 512)
#define RING        (110 * MiB)
#define DRIVER      (RING + 0x1000)
#define DEVICE      (RING + 0x2000)
#define HEADER      (RING + 0x3000)
#define STATUS      (HEADER + 16)

#define SECTOR      512

/* In-band commands are answered within, in microseconds */
#define PROMPT      (1 * G_USEC_PER_SEC)

/* What a case is about; there is one at a time */
static struct {
    bool packed;
    bool indirect;
    uint64_t bar;
    /* The far end of the network */
    int sock;
} queue;

/* --- The device --- */

static void pci_select(QTestState *who, int reg)
{
    qtest_outl(who, PCI_ADDRESS, 0x80000000 | SLOT << 11 | reg);
}

static uint32_t pci_read(QTestState *who, int reg)
{
    pci_select(who, reg);
    return qtest_inl(who, PCI_DATA);
}

static void pci_enable(QTestState *who)
{
    uint32_t command = pci_read(who, 4);

    /* Memory, and bus master */
    pci_select(who, 4);
    qtest_outl(who, PCI_DATA, (command & 0xffff) | 6);
    queue.bar = pci_read(who, 0x20) & ~0xfull;
    queue.bar |= (uint64_t)pci_read(who, 0x24) << 32;
    g_assert_cmphex(queue.bar, !=, 0);
}

static void set_features(QTestState *who, uint64_t features)
{
    for (int i = 0; i < 2; i++) {
        qtest_writel(who, queue.bar + COMMON_DRIVER_FEATURE_SELECT, i);
        qtest_writel(who, queue.bar + COMMON_DRIVER_FEATURE,
                     features >> (32 * i));
    }
}

static void set_address(QTestState *who, int reg, uint64_t addr)
{
    qtest_writel(who, queue.bar + reg, addr);
    qtest_writel(who, queue.bar + reg + 4, addr >> 32);
}

/* Queue 0 of the device, and nothing in it */
static void device_start(QTestState *who, uint64_t features)
{
    uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    features |= 1ull << VIRTIO_F_VERSION_1;
    if (queue.packed) {
        features |= 1ull << VIRTIO_F_RING_PACKED;
    }
    if (queue.indirect) {
        features |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
    }
    pci_enable(who);
    qtest_writeb(who, queue.bar + COMMON_STATUS, 0);
    qtest_writeb(who, queue.bar + COMMON_STATUS, status);
    set_features(who, features);
    status |= VIRTIO_CONFIG_S_FEATURES_OK;
    qtest_writeb(who, queue.bar + COMMON_STATUS, status);
    g_assert_cmphex(qtest_readb(who, queue.bar + COMMON_STATUS), ==, status);

    qtest_memset(who, RING, 0, 0x4000);
    qtest_writew(who, queue.bar + COMMON_QUEUE_SELECT, 0);
    qtest_writew(who, queue.bar + COMMON_QUEUE_SIZE, QUEUE_SIZE);
    set_address(who, COMMON_QUEUE_DESC, RING);
    set_address(who, COMMON_QUEUE_DRIVER, DRIVER);
    set_address(who, COMMON_QUEUE_DEVICE, DEVICE);
    qtest_writew(who, queue.bar + COMMON_QUEUE_ENABLE, 1);
    status |= VIRTIO_CONFIG_S_DRIVER_OK;
    qtest_writeb(who, queue.bar + COMMON_STATUS, status);
}

static void write_desc(QTestState *who, uint64_t table, int i, uint64_t addr,
                       uint32_t len, uint16_t flags, uint16_t next)
{
    struct vring_desc split = {
        .addr = cpu_to_le64(addr),
        .len = cpu_to_le32(len),
        .flags = cpu_to_le16(flags),
        .next = cpu_to_le16(next),
    };
    struct vring_packed_desc packed = {
        .addr = cpu_to_le64(addr),
        .len = cpu_to_le32(len),
        .flags = cpu_to_le16(flags),
    };

    if (queue.packed) {
        qtest_memwrite(who, table + i * sizeof(packed), &packed,
                       sizeof(packed));
    } else {
        qtest_memwrite(who, table + i * sizeof(split), &split, sizeof(split));
    }
}

/* Element @head is there: the destination's driver goes on */
static void make_available(QTestState *who, int n, uint16_t head)
{
    if (queue.packed) {
        /* All of its descriptors but the first are available already */
        uint16_t flags = qtest_readw(who, RING + head * 16 + 14);

        qtest_writew(who, RING + head * 16 + 14,
                     flags | 1 << VRING_PACKED_DESC_F_AVAIL);
    } else {
        qtest_writew(who, DRIVER + 4 + 2 * n, head);
        qtest_writew(who, DRIVER + 2, n + 1);
    }
}

static bool is_used(QTestState *who, int n)
{
    uint16_t used = 1 << VRING_PACKED_DESC_F_USED;

    if (queue.packed) {
        return qtest_readw(who, RING + n * 16 + 14) & used;
    }
    return qtest_readw(who, DEVICE + 2) > n;
}

static void wait_used(QTestState *who, int n)
{
    for (int i = 0; !is_used(who, n); i++) {
        g_assert_cmpint(i, <, 1000);
        g_usleep(10000);
    }
}

/* --- What is the same for all devices --- */

/* In band: only the main loop answers */
static void assert_prompt(QTestState *to)
{
    for (int i = 0; i < 10; i++) {
        int64_t start = g_get_monotonic_time();

        qobject_unref(qtest_qmp_assert_success_ref(
            to, "{ 'execute': 'query-block' }"));
        g_assert_cmpint(g_get_monotonic_time() - start, <, PROMPT);
        g_usleep(50000);
    }
}

static void assert_put_off(QTestState *to)
{
    g_assert_cmpint(migrate_query_kvm_userfault(to, "put-off"), >=, 1);
    g_assert_false(is_used(to, 0));
}

/* --- virtio-blk: a sector is read into a page that is missing --- */

static void *hook_start_blk(QTestState *from, QTestState *to)
{
    struct virtio_blk_outhdr hdr = { .type = cpu_to_le32(VIRTIO_BLK_T_IN) };
    uint16_t avail = queue.packed ? 1 << VRING_PACKED_DESC_F_AVAIL : 0;
    uint16_t next = VRING_DESC_F_NEXT;
    uint64_t table = queue.indirect ? TABLE : RING;

    /* The firmware has found the device, and left it */
    wait_for_serial("src_serial");
    device_start(from, 0);
    qtest_memwrite(from, HEADER, &hdr, sizeof(hdr));
    qtest_writeb(from, STATUS, 0xff);
    qtest_memset(from, MISSING, 0xee, SECTOR);
    if (queue.indirect) {
        write_desc(from, RING, 0, TABLE, 3 * sizeof(struct vring_desc),
                   VRING_DESC_F_INDIRECT, 0);
        avail = 0;
    }
    write_desc(from, table, 0, HEADER, sizeof(hdr), next, 1);
    write_desc(from, table, 1, MISSING, SECTOR,
               next | VRING_DESC_F_WRITE | avail, 2);
    write_desc(from, table, 2, STATUS, 1, VRING_DESC_F_WRITE | avail, 0);
    return NULL;
}

static bool hook_read_sector(QTestState *from, QTestState *to)
{
    make_available(to, 0, 0);
    qtest_writew(to, queue.bar + NOTIFY, 0);
    assert_prompt(to);
    assert_put_off(to);
    return true;
}

static char *boot_path(void)
{
    return g_strdup_printf("%s/bootsect", migration_get_env()->tmpfs);
}

static void hook_end_blk(QTestState *from, QTestState *to, void *opaque)
{
    g_autofree char *path = boot_path();
    g_autofree char *sector = NULL;
    char read[SECTOR];
    gsize size;

    wait_used(to, 0);
    g_assert_cmphex(qtest_readb(to, STATUS), ==, VIRTIO_BLK_S_OK);
    g_assert_true(g_file_get_contents(path, &sector, &size, NULL));
    g_assert_cmpuint(size, >=, SECTOR);
    qtest_memread(to, MISSING, read, SECTOR);
    g_assert_cmpmem(read, SECTOR, sector, SECTOR);
}

static void test_blk(const char *device_opts)
{
    g_autofree char *path = boot_path();
    /* The same disk that the guest starts from, whichever the firmware takes */
    g_autofree char *opts = g_strdup_printf(
        "-drive if=none,id=disk,format=raw,readonly=on,file=%s,"
        "file.locking=off "
        "-object iothread,id=thread "
        "-device virtio-blk-pci,drive=disk,addr=0x%x,disable-legacy=on%s%s",
        path, SLOT, queue.packed ? ",packed=on" : "", device_opts);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = hook_start_blk,
        .postcopy_hook = hook_read_sector,
        .end_hook = hook_end_blk,
        .start.opts_source = opts,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
    queue.packed = false;
    queue.indirect = false;
}

static void test_blk_split(void)
{
    test_blk("");
}

static void test_blk_no_ioeventfd(void)
{
    test_blk(",ioeventfd=off");
}

static void test_blk_iothread(void)
{
    test_blk(",iothread=thread");
}

static void test_blk_packed(void)
{
    queue.packed = true;
    test_blk("");
}

static void test_blk_indirect(void)
{
    queue.indirect = true;
    test_blk("");
}

/* What is put off is gone after a reset, and the device works as new */
static bool hook_reset(QTestState *from, QTestState *to)
{
    hook_read_sector(from, to);
    qtest_writeb(to, queue.bar + COMMON_STATUS, 0);
    assert_prompt(to);
    g_assert_cmphex(qtest_readb(to, queue.bar + COMMON_STATUS), ==, 0);
    return true;
}

static void hook_end_reset(QTestState *from, QTestState *to, void *opaque)
{
    g_assert_false(is_used(to, 0));
    g_assert_cmphex(qtest_readb(to, STATUS), ==, 0xff);
    g_assert_cmphex(qtest_readb(to, MISSING), ==, 0xee);
    hook_start_blk(to, to);
    make_available(to, 0, 0);
    qtest_writew(to, queue.bar + NOTIFY, 0);
    hook_end_blk(from, to, opaque);
}

static bool hook_stop_and_cont(QTestState *from, QTestState *to)
{
    hook_read_sector(from, to);
    qtest_qmp_assert_success(to, "{ 'execute': 'stop' }");
    assert_prompt(to);
    qtest_qmp_assert_success(to, "{ 'execute': 'cont' }");
    assert_prompt(to);
    assert_put_off(to);
    return true;
}

static bool hook_system_reset(QTestState *from, QTestState *to)
{
    hook_read_sector(from, to);
    qtest_qmp_assert_success(to, "{ 'execute': 'system_reset' }");
    assert_prompt(to);
    return false;
}

static void test_blk_hook(bool (*hook)(QTestState *from, QTestState *to),
                          void (*end)(QTestState *from, QTestState *to,
                                      void *opaque))
{
    g_autofree char *path = boot_path();
    g_autofree char *opts = g_strdup_printf(
        "-drive if=none,id=disk,format=raw,readonly=on,file=%s,"
        "file.locking=off "
        "-device virtio-blk-pci,drive=disk,addr=0x%x,disable-legacy=on",
        path, SLOT);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = hook_start_blk,
        .postcopy_hook = hook,
        .end_hook = end,
        .start.opts_source = opts,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

static void test_blk_reset(void)
{
    test_blk_hook(hook_reset, hook_end_reset);
}

static void test_blk_stop_and_cont(void)
{
    test_blk_hook(hook_stop_and_cont, hook_end_blk);
}

static void test_blk_system_reset(void)
{
    test_blk_hook(hook_system_reset, NULL);
}

/* --- virtio-net: a packet comes for two buffers that are missing --- */

#define PACKET      300
#define BUFFER      256
#define BUFFER1     MISSING
#define BUFFER2     TABLE

static void *hook_start_net(QTestState *from, QTestState *to)
{
    uint16_t write = VRING_DESC_F_WRITE;

    wait_for_serial("src_serial");
    device_start(from, 1ull << VIRTIO_NET_F_MRG_RXBUF);
    write_desc(from, RING, 0, BUFFER1, BUFFER, write, 0);
    write_desc(from, RING, 1, BUFFER2, BUFFER, write, 0);
    make_available(from, 0, 0);
    make_available(from, 1, 1);
    qtest_writew(from, queue.bar + NOTIFY, 0);
    return NULL;
}

static void make_packet(uint8_t *packet)
{
    memset(packet, 0xff, 6); /* for all */
    for (int i = 6; i < PACKET; i++) {
        packet[i] = i * 7;
    }
}

static bool hook_send_packet(QTestState *from, QTestState *to)
{
    struct {
        uint32_t len;
        uint8_t packet[PACKET];
    } QEMU_PACKED message = { .len = cpu_to_be32(PACKET) };

    make_packet(message.packet);
    g_assert_cmpint(send(queue.sock, &message, sizeof(message), 0), ==,
                    sizeof(message));
    assert_prompt(to);
    assert_put_off(to);
    return true;
}

static void hook_end_net(QTestState *from, QTestState *to, void *opaque)
{
    struct virtio_net_hdr_mrg_rxbuf hdr;
    uint8_t packet[PACKET], got[2 * BUFFER];

    wait_used(to, 1);
    make_packet(packet);
    qtest_memread(to, BUFFER1, got, BUFFER);
    qtest_memread(to, BUFFER2, got + BUFFER, BUFFER);
    memcpy(&hdr, got, sizeof(hdr));
    g_assert_cmpuint(le16_to_cpu(hdr.num_buffers), ==, 2);
    g_assert_cmpmem(got + sizeof(hdr), PACKET, packet, PACKET);
}

static void test_net(void)
{
    int sock[2];
    g_autofree char *source = NULL, *target = NULL;
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = hook_start_net,
        .postcopy_hook = hook_send_packet,
        .end_hook = hook_end_net,
    };

    g_assert_cmpint(socketpair(PF_UNIX, SOCK_STREAM, 0, sock), ==, 0);
    queue.sock = sock[0];
    source = g_strdup_printf("-netdev hubport,id=net,hubid=0 "
                             "-device virtio-net-pci,netdev=net,addr=0x%x,"
                             "disable-legacy=on,romfile=%s", SLOT,
                             queue.packed ? ",packed=on" : "");
    target = g_strdup_printf("-netdev socket,id=net,fd=%d "
                             "-device virtio-net-pci,netdev=net,addr=0x%x,"
                             "disable-legacy=on,romfile=%s", sock[1], SLOT,
                             queue.packed ? ",packed=on" : "");
    args.start.opts_source = source;
    args.start.opts_target = target;
    test_postcopy_recovery_common(&args);
    close(sock[0]);
    close(sock[1]);
    queue.packed = false;
}

static void test_net_split(void)
{
    test_net();
}

static void test_net_packed(void)
{
    queue.packed = true;
    test_net();
}

/* --- virtio-input: what is sent by itself is kept, and in order --- */

#define NR_EVENTS   4

/* The key "a" goes down, and comes up; little endian as all of these tests */
static const struct virtio_input_event events[NR_EVENTS] = {
    { EV_KEY, KEY_A, 1 },
    { EV_SYN, SYN_REPORT, 0 },
    { EV_KEY, KEY_A, 0 },
    { EV_SYN, SYN_REPORT, 0 },
};

static void *hook_start_input(QTestState *from, QTestState *to)
{
    wait_for_serial("src_serial");
    device_start(from, 0);
    /* The first two buffers are there, the others are not */
    for (int i = 0; i < NR_EVENTS; i++) {
        write_desc(from, RING, i, (i < 2 ? DRIVER + 0x400 : MISSING) + 8 * i,
                   8, VRING_DESC_F_WRITE, 0);
        make_available(from, i, i);
    }
    return NULL;
}

static void press_key(QTestState *to, bool down)
{
    QDict *event = qdict_from_jsonf_nofail(
        "{ 'type': 'key', 'data': {"
        "  'key': { 'type': 'qcode', 'data': 'a' } } }");

    qdict_put_bool(qdict_get_qdict(event, "data"), "down", down);
    qtest_qmp_assert_success(to, "{ 'execute': 'input-send-event',"
                             "  'arguments': { 'events': [ %p ] } }", event);
}

static bool hook_press_keys(QTestState *from, QTestState *to)
{
    press_key(to, true);
    wait_used(to, 1);
    press_key(to, false);
    assert_prompt(to);
    g_assert_cmpint(migrate_query_kvm_userfault(to, "put-off"), >=, 1);
    g_assert_false(is_used(to, 2));
    return true;
}

static void hook_end_input(QTestState *from, QTestState *to, void *opaque)
{
    struct virtio_input_event got[NR_EVENTS];

    wait_used(to, NR_EVENTS - 1);
    qtest_memread(to, DRIVER + 0x400, got, 2 * 8);
    qtest_memread(to, MISSING + 2 * 8, got + 2, 2 * 8);
    g_assert_cmpmem(got, sizeof(got), events, sizeof(events));
}

static void test_input(void)
{
    g_autofree char *opts = g_strdup_printf("-device virtio-keyboard-pci,"
                                            "addr=0x%x", SLOT);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = hook_start_input,
        .postcopy_hook = hook_press_keys,
        .end_hook = hook_end_input,
        .start.opts_source = opts,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

/* --- virtio-gpu: what backs an image is missing when it is transferred --- */

#define WIDTH       32
#define HEIGHT      16
#define PIXELS      (WIDTH * HEIGHT)
/* The image is in two pieces, each in a page of its own */
#define PIECE       (PIXELS * 4 / 2)
/* A command and the response to it, in a page that came with the rings */
#define COMMAND     (DRIVER + 0x400)
#define RESPONSE    (DRIVER + 0xc00)

static uint32_t pixel(int n)
{
    return n * 0x030507 + 0x111111;
}

/* The command is element @n, the queue has had as many before */
static void gpu_command(QTestState *who, int n, const void *command,
                        size_t len)
{
    qtest_memwrite(who, COMMAND, command, len);
    qtest_memset(who, RESPONSE, 0, sizeof(struct virtio_gpu_ctrl_hdr));
    write_desc(who, RING, 0, COMMAND, len, VRING_DESC_F_NEXT, 1);
    write_desc(who, RING, 1, RESPONSE, sizeof(struct virtio_gpu_ctrl_hdr),
               VRING_DESC_F_WRITE, 0);
    make_available(who, n, 0);
    qtest_writew(who, queue.bar + NOTIFY, 0);
}

static void gpu_wait(QTestState *who, int n)
{
    wait_used(who, n);
    g_assert_cmphex(qtest_readl(who, RESPONSE), ==,
                    VIRTIO_GPU_RESP_OK_NODATA);
}

static void gpu_create(QTestState *who, int n)
{
    struct virtio_gpu_resource_create_2d command = {
        .hdr.type = cpu_to_le32(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D),
        .resource_id = cpu_to_le32(1),
        .format = cpu_to_le32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
        .width = cpu_to_le32(WIDTH),
        .height = cpu_to_le32(HEIGHT),
    };

    gpu_command(who, n, &command, sizeof(command));
    gpu_wait(who, n);
}

static void gpu_attach(QTestState *who, int n)
{
    struct {
        struct virtio_gpu_resource_attach_backing attach;
        struct virtio_gpu_mem_entry entry[2];
    } QEMU_PACKED command = {
        .attach.hdr.type = cpu_to_le32(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING),
        .attach.resource_id = cpu_to_le32(1),
        .attach.nr_entries = cpu_to_le32(2),
        .entry[0] = {
            .addr = cpu_to_le64(MISSING), .length = cpu_to_le32(PIECE)
        },
        .entry[1] = {
            .addr = cpu_to_le64(TABLE), .length = cpu_to_le32(PIECE)
        },
    };

    gpu_command(who, n, &command, sizeof(command));
    gpu_wait(who, n);
}

static void gpu_scanout(QTestState *who, int n)
{
    struct virtio_gpu_set_scanout command = {
        .hdr.type = cpu_to_le32(VIRTIO_GPU_CMD_SET_SCANOUT),
        .r.width = cpu_to_le32(WIDTH),
        .r.height = cpu_to_le32(HEIGHT),
        .resource_id = cpu_to_le32(1),
    };

    gpu_command(who, n, &command, sizeof(command));
    gpu_wait(who, n);
}

static void gpu_flush(QTestState *who, int n)
{
    struct virtio_gpu_resource_flush command = {
        .hdr.type = cpu_to_le32(VIRTIO_GPU_CMD_RESOURCE_FLUSH),
        .r.width = cpu_to_le32(WIDTH),
        .r.height = cpu_to_le32(HEIGHT),
        .resource_id = cpu_to_le32(1),
    };

    gpu_command(who, n, &command, sizeof(command));
    gpu_wait(who, n);
}

static void *hook_start_gpu(QTestState *from, QTestState *to)
{
    g_autofree uint32_t *pixels = g_new(uint32_t, PIXELS);

    for (int i = 0; i < PIXELS; i++) {
        pixels[i] = cpu_to_le32(pixel(i));
    }
    wait_for_serial("src_serial");
    device_start(from, 0);
    qtest_memwrite(from, MISSING, pixels, PIECE);
    qtest_memwrite(from, TABLE, (char *)pixels + PIECE, PIECE);
    gpu_create(from, 0);
    gpu_attach(from, 1);
    gpu_scanout(from, 2);
    return NULL;
}

static bool hook_transfer(QTestState *from, QTestState *to)
{
    struct virtio_gpu_transfer_to_host_2d command = {
        .hdr.type = cpu_to_le32(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D),
        .r.width = cpu_to_le32(WIDTH),
        .r.height = cpu_to_le32(HEIGHT),
        .resource_id = cpu_to_le32(1),
    };

    gpu_command(to, 3, &command, sizeof(command));
    assert_prompt(to);
    g_assert_cmpint(migrate_query_kvm_userfault(to, "put-off"), >=, 1);
    g_assert_false(is_used(to, 3));
    return true;
}

static void hook_end_gpu(QTestState *from, QTestState *to, void *opaque)
{
    g_autofree char *path = g_strdup_printf("%s/screen",
                                            migration_get_env()->tmpfs);
    g_autofree char *header = g_strdup_printf("P6\n%d %d\n255\n", WIDTH,
                                              HEIGHT);
    g_autofree char *screen = NULL;
    const uint8_t *rgb;
    gsize size;

    gpu_wait(to, 3);
    gpu_flush(to, 4);
    qtest_qmp_assert_success(to, "{ 'execute': 'screendump', 'arguments':"
                             "  { 'filename': %s, 'device': 'gpu' } }", path);
    g_assert_true(g_file_get_contents(path, &screen, &size, NULL));
    unlink(path);
    g_assert_cmpuint(size, ==, strlen(header) + 3 * PIXELS);
    g_assert_cmpmem(screen, strlen(header), header, strlen(header));
    rgb = (uint8_t *)screen + strlen(header);
    for (int i = 0; i < PIXELS; i++, rgb += 3) {
        g_assert_cmphex(rgb[0] << 16 | rgb[1] << 8 | rgb[2], ==,
                        pixel(i) & 0xffffff);
    }
}

static void test_gpu(void)
{
    g_autofree char *opts = g_strdup_printf("-device virtio-gpu-pci,id=gpu,"
                                            "addr=0x%x", SLOT);
    MigrateCommon args = {
        .postcopy_kvm_userfault = true,
        .start_hook = hook_start_gpu,
        .postcopy_hook = hook_transfer,
        .end_hook = hook_end_gpu,
        .start.opts_source = opts,
        .start.opts_target = opts,
    };

    test_postcopy_recovery_common(&args);
}

void migration_test_add_postcopy_kvm_userfault_virtqueue(MigrationTestEnv *env)
{
    if (strcmp(env->arch, "x86_64")) {
        return;
    }
    migration_test_add(PREFIX "blk", test_blk_split);
    if (!env->full_set) {
        return;
    }
    migration_test_add(PREFIX "blk-packed", test_blk_packed);
    migration_test_add(PREFIX "blk-indirect", test_blk_indirect);
    migration_test_add(PREFIX "blk-iothread", test_blk_iothread);
    migration_test_add(PREFIX "blk-no-ioeventfd", test_blk_no_ioeventfd);
    migration_test_add(PREFIX "blk-reset", test_blk_reset);
    migration_test_add(PREFIX "blk-stop-and-cont", test_blk_stop_and_cont);
    migration_test_add(PREFIX "blk-system-reset", test_blk_system_reset);
    migration_test_add(PREFIX "net", test_net_split);
    migration_test_add(PREFIX "net-packed", test_net_packed);
    migration_test_add(PREFIX "input", test_input);
    if (qtest_has_device("virtio-gpu-pci")) {
        migration_test_add(PREFIX "gpu", test_gpu);
    }
}
