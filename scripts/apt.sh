# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian packages, through lists of our own under build/apt.
#
# The machine's apt configuration says which mirror is used, and the machine's
# keys verify what comes from it; its package lists are neither read nor
# written.  Sourced after common.sh.
#
# shellcheck disable=SC2086  # the option lists below are meant to be split

apt_dir=$build/apt
apt_log=$build/apt/log

# Options for the machine's own sources, with our lists.
apt_machine="-q -o Dir::State::Lists=$apt_dir/machine/lists
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="

# Options for the one suite that apt_use_suite has set up.  No package counts
# as installed there, so nothing of the machine shows through.
apt_suite="-q -o Dir::State::Lists=$apt_dir/suite/lists
    -o Dir::Etc::SourceList=$apt_dir/suite/sources.list
    -o Dir::Etc::SourceParts=- -o Dir::State::Status=/dev/null
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User= -o APT::Update::Error-Mode=any
    -o APT::Get::List-Cleanup=false"

# Fetch the machine's package lists, once for each run of configure, and set
# apt_archives to a line "URI RELEASE" for each Debian archive among them.
apt_update_machine() {
    [ -z "${apt_archives-}" ] || return 0
    mkdir -p "$apt_dir/machine/lists/partial"
    apt-get $apt_machine update >"$apt_log" 2>&1 </dev/null || :
    # shellcheck disable=SC2016  # the dollars are apt's
    apt_archives=$(apt-get $apt_machine indextargets \
        --format '$(REPO_URI) $(RELEASE)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u)
    [ -n "$apt_archives" ] ||
        die "no package list could be fetched; check the network and apt's" \
            "configuration with 'apt-get update' (see $apt_log)"
}

# apt_use_suite SUITE URI KIND: make $apt_suite mean just that suite.
apt_use_suite() {
    mkdir -p "$apt_dir/suite/lists/partial"
    case $3 in
    source | tarball) apt_type=deb-src ;;
    *) apt_type=deb ;;
    esac
    echo "$apt_type [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
        "$2 $1 main" >"$apt_dir/suite/sources.list"
    apt-get $apt_suite update >"$apt_log" 2>&1 </dev/null
}

# apt_versions PACKAGE KIND: what the suite offers, newest last.
apt_versions() {
    case $2 in
    source | tarball) apt-cache $apt_suite showsrc --only-source "$1" ;;
    *) apt-cache $apt_suite show "$1" ;;
    esac 2>/dev/null | sed -n 's/^Version: //p' | sort -V
}

# upstream_version VERSION: without Debian's epoch, revision and "+ds".
upstream_version() {
    upstream=${1#*:}
    upstream=${upstream%-*}
    echo "${upstream%%+*}"
}

# is_newer VERSION THAN: both upstream's
is_newer() {
    [ "$1" != "$2" ] &&
        [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]
}

# apt_newest PACKAGE KIND PATTERN [THAN]: the newest version that fits and is
# newer than THAN, if any.
apt_newest() {
    newest=
    for version in $(apt_versions "$1" "$2"); do
        found=$(upstream_version "$version")
        # shellcheck disable=SC2254  # a pattern is what it is
        case $found in
        $3) ;;
        *) continue ;;
        esac
        [ -z "${4-}" ] || is_newer "$found" "$4" || continue
        newest=$version
    done
    echo "$newest"
}

# apt_locate PACKAGE KIND PATTERN SUITES [THAN]: set apt_version, and leave
# $apt_suite at the first suite that has the package.  False when none has it.
apt_locate() {
    apt_update_machine
    for suite in $4; do
        case $suite in
        *-security) apt_uris=$(echo "$apt_archives" | awk '$2 ~ /-security$/ { print $1 }') ;;
        *) apt_uris=$(echo "$apt_archives" | awk '$2 !~ /-security$/ { print $1 }') ;;
        esac
        for uri in $(echo "$apt_uris" | sort -u); do
            apt_use_suite "$suite" "$uri" "$2" || continue
            apt_version=$(apt_newest "$1" "$2" "$3" "${5-}")
            [ -z "$apt_version" ] || return 0
        done
    done
    return 1
}

# apt_download PACKAGE KIND VERSION DIR: all its files, verified by apt.
apt_download() {
    case $2 in
    source) apt_verb='source --download-only' ;;
    tarball) apt_verb='source --download-only --tar-only' ;;
    *) apt_verb=download ;;
    esac
    (cd "$4" && apt-get $apt_suite $apt_verb "$1=$3") >"$apt_log" 2>&1 </dev/null
}
