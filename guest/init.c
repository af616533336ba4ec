/*
 * The guest that tests migrate: it keeps devices busy, and checks all it reads
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The first and only program of the guest.  The kernel's command line says what
 * it does:
 *
 *   guest.modules=NAME,...  load these, and what they need; parameters are
 *                           given as NAME.PARAMETER=VALUE
 *   guest.console=NAME      write lines to /dev/NAME: each byte for the serial
 *                           port leaves the guest twice
 *   guest.work=WORK,...     do this for ever, a process each:
 *     memory:MB             own that much memory; write all of it, check it
 *     disk:NAME[:REST]      write all of /dev/NAME past the page cache, read it;
 *                           rest that many ms between requests
 *     efivars               write UEFI variables, which the firmware does in
 *                           system management mode if it is built for that;
 *                           read them when they have aged by a pass
 *     net:IF:ADDRESS:SERVER:PORT
 *                           get datagrams back from an echo server; addresses
 *                           are of a /24
 *     report:MB:PORT        write to that much memory, in huge pages, until a
 *                           byte is read from /dev/PORT; with the next one, free
 *                           it
 *     stress[:OPTION=VALUE]...
 *                           threads that write to memory and check it, with
 *                           figures for the console; see stress.c
 *     vga                   draw on the first display, read it back
 *
 * A work that is done twice can be given names, such as "net.a:...,net.b:...".
 *
 * Each pass over all that a work has is reported on the console as "NAME: pass
 * N".  Anything that is not as it was written is reported as "WRONG ...", and so
 * is work that can't go on.
 *
 * Nothing that was written looks like what was written elsewhere or in another
 * pass, or like zeros.
 *
 * On any other machine: init WORK...
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <linux/fs.h>

#include "guest.h"

#define PAGE_WORDS  (PAGE / sizeof(uint64_t))

const char *work_name;

/* --- Console --- */

/* Of all processes: whoever has it may write. */
static pthread_mutex_t *console;

static void create_console(void)
{
    pthread_mutexattr_t attr;

    console = mmap(NULL, sizeof(*console), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (console == MAP_FAILED) {
        _exit(1);
    }
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(console, &attr);
}

static void __attribute__((noreturn)) kill_all(void)
{
    kill(0, SIGKILL);
    _exit(1);
}

static void write_line(const char *format, va_list args)
{
    char line[LINE];
    int n = vsnprintf(line, sizeof(line), format, args);

    n = n < LINE ? n : LINE - 1;
    line[n++] = '\n';
    if (write(STDOUT_FILENO, line, n) != n) {
        kill_all();
    }
}

void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(console);
    write_line(format, args);
    pthread_mutex_unlock(console);
    va_end(args);
}

/* The console is not given back: nobody can write before they have ended. */
void end_all(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(console);
    write_line(format, args);
    kill_all();
}

static void pass_done(uint64_t pass)
{
    say("%s: pass %lu", work_name, pass);
}

void die(const char *what)
{
    say("WRONG %s: %s: %s", work_name, what, strerror(errno));
    _exit(1);
}

/* --- Stamps --- */

/* The first word of a page; the others follow from it. */
static uint64_t stamp(uint64_t page, uint64_t pass)
{
    return (page << 32 | pass) * 0x9e3779b97f4a7c15ULL + 1;
}

static void stamp_page(uint64_t *words, uint64_t page, uint64_t pass)
{
    uint64_t word = stamp(page, pass);

    for (int i = 0; i < PAGE_WORDS; i++, word += 0xd1342543de82ef95ULL) {
        words[i] = word;
    }
}

static void check_page(const uint64_t *words, uint64_t page, uint64_t pass)
{
    uint64_t word = stamp(page, pass);

    for (int i = 0; i < PAGE_WORDS; i++, word += 0xd1342543de82ef95ULL) {
        if (words[i] != word) {
            say("WRONG %s: pass %lu, page %lu, word %d: %016lx, not %016lx",
                work_name, pass, page, i, words[i], word);
            return;
        }
    }
}

void *allocate(size_t size)
{
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED) {
        die("mmap");
    }
    return mem;
}

/* --- Work: memory --- */

static void work_memory(char *arg)
{
    size_t pages = strtoul(arg, NULL, 0) * MB / PAGE;
    uint64_t *mem = allocate(pages * PAGE);

    /* Devices are what this is about.  What nice() returns can be below 0. */
    errno = 0;
    nice(5);
    if (errno) {
        die("nice");
    }
    for (uint64_t pass = 1;; pass++) {
        for (size_t i = 0; i < pages; i++) {
            if (pass > 1) {
                check_page(mem + i * PAGE_WORDS, i, pass - 1);
            }
            stamp_page(mem + i * PAGE_WORDS, i, pass);
            if (i % 64 == 0) {
                usleep(1000);
            }
        }
        pass_done(pass);
    }
}

/* --- Work: disk --- */

/* What one request transfers, at most. */
#define CHUNK (64 * 1024)

static int open_disk(const char *name, uint64_t *size)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/dev/%s", name);
    /* Some are found a while after their driver is loaded. */
    for (int i = 0; i < 3000; i++) {
        fd = open(path, O_RDWR | O_DIRECT);
        if (fd >= 0) {
            break;
        }
        usleep(10000);
    }
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, size) < 0) {
        die(path);
    }
    return fd;
}

static void transfer(int fd, bool write, void *data, uint64_t size,
                     unsigned int rest)
{
    size_t length;

    for (uint64_t at = 0; at < size; at += length) {
        length = size - at < CHUNK ? size - at : CHUNK;
        if ((write ? pwrite(fd, data + at, length, at)
                   : pread(fd, data + at, length, at)) != length) {
            die(write ? "write" : "read");
        }
        if (rest) {
            usleep(rest * 1000);
        }
    }
}

/*
 * The processor fills the one buffer long before a device takes it, and looks
 * at the other one long after a device has filled it.
 */
static void work_disk(char *arg)
{
    char *name = strtok(arg, ":"), *option = strtok(NULL, ":");
    unsigned int rest = option ? atoi(option) : 0;
    uint64_t size;
    int fd = open_disk(name, &size);
    void *out = allocate(size), *in = allocate(size);

    for (uint64_t pass = 1;; pass++) {
        for (uint64_t i = 0; i < size / PAGE; i++) {
            stamp_page(out + i * PAGE, i, pass);
        }
        transfer(fd, true, out, size, rest);
        transfer(fd, false, in, size, rest);
        for (uint64_t i = 0; i < size / PAGE; i++) {
            check_page(in + i * PAGE, i, pass);
        }
        pass_done(pass);
    }
}

/* --- Work: network --- */

#define DATAGRAM_WORDS  175
#define DATAGRAM_MAGIC  0x7f6e5d4cULL
/* How many are under way at a time, and how many make a pass. */
#define WINDOW          32
#define DATAGRAMS       512

static struct sockaddr_in internet(const char *address, int port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = inet_addr(address),
    };
    return in;
}

static void interface_up(int fd, const char *name, const char *address)
{
    struct sockaddr_in in = internet(address, 0);
    struct ifreq req = { };

    strncpy(req.ifr_name, name, IFNAMSIZ - 1);
    memcpy(&req.ifr_addr, &in, sizeof(in));
    if (ioctl(fd, SIOCSIFADDR, &req) < 0) {
        die("SIOCSIFADDR");
    }
    in = internet("255.255.255.0", 0);
    memcpy(&req.ifr_netmask, &in, sizeof(in));
    if (ioctl(fd, SIOCSIFNETMASK, &req) < 0) {
        die("SIOCSIFNETMASK");
    }
    req.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &req) < 0) {
        die("SIOCSIFFLAGS");
    }
}

static void datagram_send(int fd, uint64_t number)
{
    uint64_t words[DATAGRAM_WORDS];

    for (int i = 0; i < DATAGRAM_WORDS; i++) {
        words[i] = DATAGRAM_MAGIC << 32 | number;
    }
    /* One that can't be sent is as one that is lost. */
    send(fd, words, sizeof(words), 0);
}

/* Wait for one; false after a while. */
static bool datagram_receive(int fd, uint64_t *number)
{
    uint64_t words[DATAGRAM_WORDS + 1];
    ssize_t n = recv(fd, words, sizeof(words), 0);

    if (n < 0) {
        return false;
    }
    *number = (uint32_t)words[0];
    for (int i = 0; i < DATAGRAM_WORDS; i++) {
        if (words[i] != (DATAGRAM_MAGIC << 32 | *number)) {
            say("WRONG %s: word %d of a datagram is %016lx, after %016lx",
                work_name, i, words[i], words[0]);
            return true;
        }
    }
    if (n != DATAGRAM_WORDS * sizeof(uint64_t)) {
        say("WRONG %s: a datagram of %zd bytes", work_name, n);
    }
    return true;
}

static void work_net(char *arg)
{
    char *name = strtok(arg, ":"), *address = strtok(NULL, ":");
    char *server = strtok(NULL, ":"), *port = strtok(NULL, ":");
    struct timeval patience = { .tv_usec = 300000 };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in in;
    /* Bits of those that have not come back, the last one sent is bit 0. */
    uint64_t away = 0;
    uint64_t sent = 0, number, received = 0;

    if (!port) {
        die("net takes IF:ADDRESS:SERVER:PORT");
    }
    interface_up(fd, name, address);
    in = internet(server, atoi(port));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (void *)&in, sizeof(in)) < 0) {
        die("connect");
    }
    for (;;) {
        while (__builtin_popcountll(away) < WINDOW) {
            away = away << 1 | 1;
            datagram_send(fd, ++sent);
        }
        if (!datagram_receive(fd, &number)) {
            away = 0; /* all are lost */
            continue;
        }
        if (number > sent) {
            say("WRONG %s: datagram %lu comes back, %lu was the last sent",
                work_name, number, sent);
            continue;
        }
        if (sent - number < 64) {
            away &= ~(1ULL << (sent - number));
        }
        if (++received % DATAGRAMS == 0) {
            pass_done(received / DATAGRAMS);
        }
    }
}

/* --- Work: UEFI variables --- */

#define EFIVARS         "/sys/firmware/efi/efivars"
#define EFIVARS_GUID    "2b4f7b4e-0c3a-4f0c-9d6b-6b1f5a0c7e21"
#define EFIVARS_COUNT   2
#define EFIVARS_WORDS   4
/*
 * Calls of the firmware between two writes, 10 ms apart.  What a variable was
 * takes space until the next reset: with these rests it lasts for minutes.
 */
#define EFIVARS_CALLS   10
/* Non-volatile, there for boot services and at run time */
#define EFIVARS_ATTRIBUTES  7

/* As a file of efivarfs has it, and as it is read and written in one go. */
struct variable {
    uint32_t attributes;
    uint64_t words[EFIVARS_WORDS];
} __attribute__((packed));

static void stamp_variable(struct variable *var, int number, uint64_t pass)
{
    var->attributes = EFIVARS_ATTRIBUTES;
    for (int i = 0; i < EFIVARS_WORDS; i++) {
        var->words[i] = stamp(number, pass) + i * 0xd1342543de82ef95ULL;
    }
}

static void check_variable(int fd, int number, uint64_t pass)
{
    struct variable want, have = { };

    stamp_variable(&want, number, pass);
    if (pread(fd, &have, sizeof(have), 0) != sizeof(have)) {
        die("read");
    }
    for (int i = 0; i < EFIVARS_WORDS; i++) {
        if (have.words[i] != want.words[i]) {
            say("WRONG %s: pass %lu, variable %d, word %d: %016lx, not %016lx",
                work_name, pass, number, i, have.words[i], want.words[i]);
            return;
        }
    }
}

/*
 * Values are read from a cache that the firmware has outside of system
 * management mode; how much space is left is not.
 */
static void call_firmware(void)
{
    struct statfs info;

    for (int i = 0; i < EFIVARS_CALLS; i++) {
        if (statfs(EFIVARS, &info) < 0) {
            die("statfs");
        }
        usleep(10000);
    }
}

/* Who makes a variable may write to it as long as it is open. */
static int create_variable(int number)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), EFIVARS "/Guest%d-" EFIVARS_GUID, number);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0) {
        die(path);
    }
    return fd;
}

static void work_efivars(char *arg)
{
    int fd[EFIVARS_COUNT];
    struct variable var;

    if (mount("efivarfs", EFIVARS, "efivarfs", 0, NULL) < 0) {
        die(EFIVARS);
    }
    for (int i = 0; i < EFIVARS_COUNT; i++) {
        fd[i] = create_variable(i);
    }
    for (uint64_t pass = 1;; pass++) {
        for (int i = 0; i < EFIVARS_COUNT; i++) {
            if (pass > 1) {
                check_variable(fd[i], i, pass - 1);
            }
            stamp_variable(&var, i, pass);
            if (write(fd[i], &var, sizeof(var)) != sizeof(var)) {
                die("write");
            }
            call_firmware();
        }
        pass_done(pass);
    }
}

/* --- Work: display --- */

#define WIDTH   640
#define HEIGHT  480

static void *map_bar(const char *device, int bar, size_t size)
{
    char path[128];
    void *mem;
    int fd;

    snprintf(path, sizeof(path), "%s/resource%d", device, bar);
    fd = open(path, O_RDWR);
    if (fd < 0) {
        die(path);
    }
    mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem == MAP_FAILED) {
        die(path);
    }
    close(fd);
    return mem;
}

static bool is_display(const char *device)
{
    char path[128], class[16] = "";
    FILE *file;

    snprintf(path, sizeof(path), "%s/class", device);
    file = fopen(path, "r");
    if (file) {
        if (!fgets(class, sizeof(class), file)) {
            class[0] = 0;
        }
        fclose(file);
    }
    return !strncmp(class, "0x0300", 6);
}

static const char *find_display(void)
{
    glob_t devices;

    glob("/sys/bus/pci/devices/*", 0, NULL, &devices);
    for (int i = 0; i < devices.gl_pathc; i++) {
        if (is_display(devices.gl_pathv[i])) {
            return devices.gl_pathv[i];
        }
    }
    errno = ENODEV;
    die("display");
    return NULL;
}

/* Bochs' registers, which the standard VGA has in its third BAR. */
static void set_mode(const char *device)
{
    volatile uint16_t *regs = map_bar(device, 2, PAGE) + 0x500;

    regs[4] = 0;        /* disabled */
    regs[1] = WIDTH;
    regs[2] = HEIGHT;
    regs[3] = 32;       /* bits per pixel */
    regs[5] = 0;        /* bank */
    regs[8] = 0;        /* x offset */
    regs[9] = 0;        /* y offset */
    regs[4] = 0x41;     /* enabled, linear frame buffer */
}

static void enable(const char *device)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/enable", device);
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, "1", 1) != 1) {
        die(path);
    }
    close(fd);
}

/* Red and green are the pass, blue is the line: from top to bottom. */
static void work_vga(char *arg)
{
    const char *device = find_display();
    volatile uint32_t *pixels;

    enable(device);
    set_mode(device);
    pixels = map_bar(device, 0, WIDTH * HEIGHT * 4);
    for (uint64_t pass = 1;; pass++) {
        for (int i = 0; i < WIDTH * HEIGHT; i++) {
            pixels[i] = (pass & 0xffff) << 8 | (i / WIDTH & 0xff);
        }
        for (int i = 0; i < WIDTH * HEIGHT; i++) {
            uint32_t want = (pass & 0xffff) << 8 | (i / WIDTH & 0xff);

            if (pixels[i] != want) {
                say("WRONG %s: pass %lu, pixel %d: %06x, not %06x", work_name,
                    pass, i, pixels[i], want);
                break;
            }
        }
        pass_done(pass);
        usleep(20000);
    }
}

/* --- Work: memory that is freed, and reported as free --- */

#define HUGE_PAGE   (2 * MB)

static uint8_t *allocate_huge(size_t size)
{
    uint8_t *mem = allocate(size + HUGE_PAGE);

    mem += -(uintptr_t)mem % HUGE_PAGE;
    if (madvise(mem, size, MADV_HUGEPAGE) < 0) {
        die("MADV_HUGEPAGE");
    }
    return mem;
}

static void touch(uint8_t *mem, size_t size, uint64_t pass)
{
    for (size_t i = 0; i < size; i += PAGE) {
        *(uint64_t *)(mem + i) = stamp(i / PAGE, pass);
    }
}

/* Where it is in the guest's physical memory, for who watches. */
static void say_where(const uint8_t *mem, size_t size)
{
    int fd = open("/proc/self/pagemap", O_RDONLY);

    for (size_t i = 0; i < size; i += HUGE_PAGE) {
        uint64_t entry;

        if (fd < 0 || pread(fd, &entry, sizeof(entry), (uintptr_t)(mem + i) /
                            PAGE * sizeof(entry)) != sizeof(entry)) {
            die("pagemap");
        }
        entry = (entry & ((1ULL << 55) - 1)) * PAGE;
        /* If not, it is no huge page, and in pieces. */
        if (entry % HUGE_PAGE == 0) {
            say("%s: owns 0x%lx", work_name, (unsigned long)entry);
        }
    }
    close(fd);
}

static int open_port(const char *name)
{
    struct termios raw;
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/dev/%s", name);
    fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || tcgetattr(fd, &raw) < 0) {
        die(path);
    }
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    return fd;
}

static void work_report(char *arg)
{
    size_t size = strtoul(strtok(arg, ":"), NULL, 0) * MB;
    int port = open_port(strtok(NULL, ":"));
    uint8_t *mem = allocate_huge(size);
    int told = 0;
    char byte;

    for (uint64_t pass = 1;; pass++) {
        if (!told) {
            touch(mem, size, pass);
        }
        if (pass == 1) {
            say_where(mem, size);
        }
        if (read(port, &byte, 1) == 1) {
            told++;
            if (told == 2) {
                munmap(mem, size);
            }
            say("%s: %s", work_name, told == 1 ? "quiet" : "freed");
        }
        pass_done(pass);
        usleep(200000);
    }
}

/* --- Modules --- */

/* Parameters are NAME.PARAMETER=VALUE on the kernel's command line. */
static void parameters_of(const char *module, const char *cmdline, char *out)
{
    size_t n = strlen(module);
    char *copy = strdup(cmdline), *save;

    *out = 0;
    for (char *word = strtok_r(copy, " ", &save); word;
         word = strtok_r(NULL, " ", &save)) {
        if (!strncmp(word, module, n) && word[n] == '.') {
            strcat(out, word + n + 1);
            strcat(out, " ");
        }
    }
    free(copy);
}

static void load_file(const char *file, const char *cmdline)
{
    char path[128], module[64], parameters[1024];
    int fd;

    snprintf(module, sizeof(module), "%.*s", (int)(strlen(file) - 3), file);
    for (char *c = module; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    parameters_of(module, cmdline, parameters);
    snprintf(path, sizeof(path), "/modules/%s", file);
    fd = open(path, O_RDONLY);
    if (fd < 0 || (syscall(SYS_finit_module, fd, parameters, 0) < 0 &&
                   errno != EEXIST)) {
        die(path);
    }
    close(fd);
}

/* /modules/order has a line "NAME: FILE..." for each that can be asked for. */
static void load_module(const char *name, const char *cmdline)
{
    FILE *order = fopen("/modules/order", "r");
    char line[1024], *save;
    size_t n = strlen(name);

    while (order && fgets(line, sizeof(line), order)) {
        if (strncmp(line, name, n) || line[n] != ':') {
            continue;
        }
        for (char *file = strtok_r(line + n + 1, " \n", &save); file;
             file = strtok_r(NULL, " \n", &save)) {
            load_file(file, cmdline);
        }
        fclose(order);
        return;
    }
    errno = ENOENT;
    die(name);
}

/* --- Start --- */

static const struct {
    const char *name;
    void (*run)(char *arg);
} works[] = {
    { "memory",  work_memory },
    { "disk",    work_disk },
    { "efivars", work_efivars },
    { "net",     work_net },
    { "report",  work_report },
    { "stress",  work_stress },
    { "vga",     work_vga },
};

/* A copy of an option's value, empty if it is not given. */
static char *option(const char *cmdline, const char *name)
{
    const char *start = strstr(cmdline, name);

    return start ? strndup(start + strlen(name),
                           strcspn(start + strlen(name), " \n")) : strdup("");
}

static void work_start(char *work)
{
    char *arg = strchr(work, ':');
    size_t length;

    if (arg) {
        *arg++ = 0;
    }
    length = strcspn(work, ".");
    for (int i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
        if (strlen(works[i].name) != length ||
            strncmp(works[i].name, work, length)) {
            continue;
        }
        if (fork() == 0) {
            /* If the first process can end, its works do so, too. */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work_name = work;
            works[i].run(arg);
        }
        return;
    }
    errno = ENOENT;
    die(work);
}

/* The machine is ours: mount what programs expect, take the console. */
static void take_machine(void)
{
    int fd;

    mkdir("/dev", 0755);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    /* There was no console device when the kernel looked for it. */
    fd = open("/dev/console", O_RDWR);
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
}

/* A device may be found a while after its driver is loaded. */
static void set_console(const char *name)
{
    char path[64];
    int fd = -1;

    snprintf(path, sizeof(path), "/dev/%s", name);
    for (int i = 0; fd < 0 && i < 1000; i++) {
        fd = open(path, O_WRONLY);
        if (fd < 0) {
            usleep(10000);
        }
    }
    if (fd < 0) {
        die(path);
    }
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

static void start_guest(void)
{
    static char cmdline[4096];
    char *save, *name;
    int fd;

    take_machine();
    fd = open("/proc/cmdline", O_RDONLY);
    if (fd < 0 || read(fd, cmdline, sizeof(cmdline) - 1) <= 0) {
        die("/proc/cmdline");
    }
    cmdline[strcspn(cmdline, "\n")] = 0;

    for (name = strtok_r(option(cmdline, "guest.modules="), ",", &save);
         name; name = strtok_r(NULL, ",", &save)) {
        load_module(name, cmdline);
    }
    name = option(cmdline, "guest.console=");
    if (*name) {
        set_console(name);
    }
    say("guest: up");
    for (char *work = strtok_r(option(cmdline, "guest.work="), ",", &save);
         work; work = strtok_r(NULL, ",", &save)) {
        work_start(work);
    }
}

int main(int argc, char **argv)
{
    work_name = "init";
    create_console();
    /* All works are in one process group, and nobody else is: kill_all() */
    setsid();
    signal(SIGPIPE, SIG_IGN);
    if (getpid() == 1) {
        start_guest();
    }
    for (int i = 1; i < argc && getpid() != 1; i++) {
        work_start(argv[i]);
    }
    if (wait(NULL) > 0) {
        say("WRONG init: a work has ended");
    }
    while (getpid() == 1) {
        pause(); /* a kernel needs its first process */
    }
    return 1;
}
