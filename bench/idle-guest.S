/*
 * A guest that does one thing over and over, see bench/idle-cost
 *
 * Copyright (c) 2026 the QEMU KVM userfault authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It is its own firmware, 64K that end at the reset vector, and stays in real
 * mode.  A byte to the debug console marks the end of each round; every other
 * round does twice the work.  The assembler's command line says what that is:
 *
 *   PORT     write to a port of fw_cfg's that only takes a value
 *   MMIO     read a byte from a VGA
 *   DMA      write to the port that lets fw_cfg transfer four bytes
 *   DISK     read 4K of a virtio-blk disk
 *   COUNT    how often in the shorter rounds
 *   PAIRS    pairs of rounds, after one that does not count
 *
 * One of the first four is defined.
 */

        .code16

        /* The machine, see bench/idle-cost */
        .equ    MARK, 0xe9
        .equ    VGA, 0xa0000
        .equ    FW_CFG_ADDRESS_HIGH, 0x514
        .equ    FW_CFG_ADDRESS_LOW, 0x518
        .equ    DISK_SLOT, 4

        .equ    PCI_ADDRESS, 0xcf8
        .equ    PCI_DATA, 0xcfc
        .equ    PCI_COMMAND, 0x04
        .equ    PCI_BAR0, 0x10
        .equ    PIIX3_PIRQ, 0x60
        .equ    PIC_COMMAND, 0x20
        .equ    PIC_DATA, 0x21
        .equ    PIC_LEVEL, 0x4d0
        .equ    APIC_BASE, 0x1b                 /* MSR */
        .equ    APIC_ENABLE, 1 << 11
        .equ    IRQ, 5
        .equ    VECTOR, 0x20

        /* The registers of a legacy virtio device */
        .equ    VIRTIO, 0xc000
        .equ    QUEUE_PAGE, VIRTIO + 0x08
        .equ    QUEUE_SIZE, VIRTIO + 0x0c
        .equ    QUEUE_NOTIFY, VIRTIO + 0x10
        .equ    STATUS, VIRTIO + 0x12
        .equ    ISR, VIRTIO + 0x13

        /* What fw_cfg is asked for, big endian: select and read item 0 */
        .equ    FW_CFG_CONTROL, 0x0a000000
        .equ    FW_CFG_LENGTH, 0x04000000
        .equ    FW_CFG_TO, 0x00200000

        /* Memory: a request to fw_cfg, a queue, and what is in that */
        .equ    STACK, 0x7000
        .equ    FW_CFG, 0x1000
        .equ    QUEUE, 0x10000
        .equ    HEADER, 0x20000                 /* zeros: read sector 0 */
        .equ    RESULT, 0x20010
        .equ    DATA, 0x21000
        .equ    NEXT, 1
        .equ    WRITE, 2

        .macro  put port:req, value:req, register:req
        mov     $\port, %dx
        mov     $\value, \register
        out     \register, %dx
        .endm

        .macro  pci slot:req, register:req, value:req
        put     PCI_ADDRESS, (0x80000000 | \slot << 11 | \register), %eax
        put     PCI_DATA, \value, %eax
        .endm

        .macro  descriptor number:req, address:req, length:req, flags:req
        movl    $\address, 16 * \number
        movl    $\length, 16 * \number + 8
        movl    $(\flags | (\number + 1) << 16), 16 * \number + 12
        .endm

        .text
start:
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $STACK, %sp
        .ifdef  PORT
        mov     $FW_CFG_ADDRESS_HIGH, %dx
        xor     %eax, %eax
        .endif
        .ifdef  MMIO
        mov     $(VGA >> 4), %ax
        mov     %ax, %ds
        .endif
        .ifdef  DMA
        movl    $FW_CFG_LENGTH, FW_CFG + 4
        movl    $0, FW_CFG + 8
        movl    $FW_CFG_TO, FW_CFG + 12
        mov     $FW_CFG_ADDRESS_LOW, %dx
        mov     $(FW_CFG >> 8 | (FW_CFG & 0xff) << 8) << 16, %eax
        .endif
        .ifdef  DISK
        call    disk_start
        .endif

        mov     $COUNT, %ebp
        call    round
        mov     $PAIRS, %ebx
1:      mov     $COUNT, %ebp
        call    round
        mov     $(2 * COUNT), %ebp
        call    round
        dec     %ebx
        jnz     1b
        cli
        hlt

/* Work %ebp times, and say so. */
round:
1:
        .ifdef  PORT
        out     %eax, %dx
        .endif
        .ifdef  MMIO
        mov     0, %al
        .endif
        .ifdef  DMA
        movl    $FW_CFG_CONTROL, FW_CFG
        out     %eax, %dx
        .endif
        .ifdef  DISK
        call    disk_read
        .endif
        dec     %ebp
        jnz     1b
        out     %al, $MARK
        ret

        .ifdef  DISK
/* Leaves %ds at the queue, %si at the driver's ring, %di at the device's. */
disk_start:
        movw    $interrupt, 4 * (VECTOR + IRQ)
        movw    $0xf000, 4 * (VECTOR + IRQ) + 2
        /* Without the local APIC, the PIC's interrupts are the processor's. */
        mov     $APIC_BASE, %ecx
        rdmsr
        and     $~APIC_ENABLE, %eax
        wrmsr
        put     PIC_COMMAND, 0x11, %al
        put     PIC_DATA, VECTOR, %al
        put     PIC_DATA, 0x04, %al
        put     PIC_DATA, 0x01, %al
        put     PIC_DATA, (~(1 << IRQ) & 0xff), %al
        put     PIC_LEVEL, (1 << IRQ), %al
        pci     1, PIIX3_PIRQ, (IRQ * 0x01010101)
        pci     DISK_SLOT, PCI_BAR0, VIRTIO
        pci     DISK_SLOT, PCI_COMMAND, 0x5

        mov     $(QUEUE >> 4), %ax
        mov     %ax, %ds
        descriptor 0, HEADER, 16, NEXT
        descriptor 1, DATA, 4096, (NEXT | WRITE)
        descriptor 2, RESULT, 1, WRITE
        mov     $QUEUE_SIZE, %dx
        in      %dx, %ax
        mov     %ax, %si
        shl     $4, %si
        shl     $1, %ax
        lea     6 + 0xfff(%si), %di
        add     %ax, %di
        and     $0xf000, %di

        put     STATUS, 0x3, %al
        put     QUEUE_PAGE, (QUEUE >> 12), %eax
        put     STATUS, 0x7, %al
        ret

/* Every entry of the rings is 0, the first descriptor. */
disk_read:
        incw    2(%si)
        put     QUEUE_NOTIFY, 0, %ax
        /* An interrupt is taken in hlt, or after the check. */
1:      sti
        hlt
        cli
        mov     2(%si), %ax
        cmp     2(%di), %ax
        jne     1b
        ret

interrupt:
        push    %ax
        push    %dx
        mov     $ISR, %dx
        in      %dx, %al
        mov     $0x20, %al
        out     %al, $PIC_COMMAND
        pop     %dx
        pop     %ax
        iret
        .endif

        .org    0xfff0
        ljmp    $0xf000, $start
        .org    0x10000
