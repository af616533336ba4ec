# SPDX-License-Identifier: GPL-2.0-or-later
#
# How this project configures QEMU.  Sourced after tree.sh, with $python set.

# Firmware that Debian takes out of QEMU's source is in packages of its own.
firmware="/usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu"

# A QEMU that runs where it was built looks for all paths below qemu-bundle.
qemu_link_firmware() {
    for dir in $firmware; do
        mkdir -p "qemu-bundle$(dirname "$dir")" &&
            ln -sfn "$dir" "qemu-bundle$dir" || return
    done
}

# qemu_configure SOURCE: QEMU's configure, in the current folder.
qemu_configure() {
    "$1/configure" --python="$python" --cc="$(compiler cc)" \
        --target-list=x86_64-softmmu --without-default-features \
        --disable-download --disable-install-blobs --enable-werror \
        --firmwarepath="$(echo "$firmware" | tr ' ' :)" \
        --with-pkgversion="kvm-userfault on $(git -C "$1" log -1 --format=%s base)" \
        --enable-kvm --enable-tcg --enable-slirp --enable-linux-aio \
        --enable-pixman --enable-fdt=system --enable-attr --enable-cap-ng \
        --enable-gnutls --enable-rdma --enable-replication \
        --enable-virtfs --enable-vhost-kernel --enable-vhost-net \
        --enable-vhost-user --enable-vhost-vdpa &&
        qemu_link_firmware
}

# qemu_configure_once SOURCE ROOT WHAT: in ROOT/qemu, if it is not yet as here.
qemu_configure_once() {
    inputs=$(qemu_configure_inputs "$1")
    stamp_is "$2/qemu/.inputs" "$inputs" && return
    say "Configuring $3"
    rm -rf "$2/qemu"
    mkdir -p "$2/qemu"
    (cd "$2/qemu" && quietly "$2/qemu.log" qemu_configure "$1") ||
        die "QEMU's configure failed: $(last_error "$2/qemu.log")" \
            "(see $2/qemu.log)"
    stamp_set "$2/qemu/.inputs" "$inputs"
}

# What a configured QEMU depends on, but for what its own build notices.
qemu_configure_inputs() {
    {
        echo "$top $python $(compiler cc)"
        git -C "$1" rev-parse base
        cat "$top/scripts/qemu.sh"
    } | checksum
}
