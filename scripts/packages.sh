# SPDX-License-Identifier: GPL-2.0-or-later
#
# The Debian packages that the build needs (base/packages).  Sourced after
# apt.sh.

packages_wanted() {
    sed 's/#.*//' "$top/base/packages" | xargs
}

packages_missing() {
    for package in $(packages_wanted); do
        # shellcheck disable=SC2016  # the dollars are dpkg-query's
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
        installed) ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

# packages_install yes|no: bring what is missing, or only say what that is.
packages_install() {
    missing=$(packages_missing)
    [ -n "$missing" ] || return 0
    [ "$1" = yes ] ||
        die "these packages are missing: ${missing% }; install them, or run" \
            "configure without --no-install"
    say "Installing packages: ${missing% }"
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            die "installing packages needs root: run as root, install sudo, or" \
                "have these installed: ${missing% }"
        as_root=sudo
    fi
    apt_update_machine
    # shellcheck disable=SC2086  # options and packages, a word each
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get $apt_machine install -y --no-install-recommends \
        -o Dpkg::Lock::Timeout=120 $missing >"$build/packages.log" 2>&1 </dev/null ||
        die "packages could not be installed:" \
            "$(last_error "$build/packages.log") (see $build/packages.log);" \
            "check the network and apt's configuration with 'apt-get update'"
}
