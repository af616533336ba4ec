# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the project's shell scripts share.  Sourced, with $top set to the root
# of the repository.

build=$top/build

# Git must not depend on who runs it: patches have to come out the same.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_COMMITTER_NAME=base GIT_COMMITTER_EMAIL=base@localhost
# A caller's own repository (a git hook, say) must not become ours.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

# ccache finds what another clone has compiled only if paths are relative.
export CCACHE_BASEDIR=$top CCACHE_NOHASHDIR=1
# What is not in the cache costs no preprocessor, a sixth of a first build.
export CCACHE_DEPEND=1

# compiler NAME: how to call it, through ccache if that is there.
compiler() {
    if command -v ccache >/dev/null; then
        echo "ccache $1"
    else
        echo "$1"
    fi
}

# How many jobs make gets: as many as ninja takes by itself.
make_jobs() {
    echo "$(($(nproc) + 2))"
}

say() {
    printf '%s\n' "$*"
}

# die MESSAGE: one sentence that names the thing and the next step.
die() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# quietly LOG COMMAND...: run it with its output in a log.
quietly() {
    quiet_log=$1
    shift
    "$@" >"$quiet_log" 2>&1 </dev/null
}

# The last line of a log that says what went wrong, for an error message.
last_error() {
    grep -iE '^(e:|error|fatal|dpkg-source: error|tar:|.*: error:)' "$1" |
        tail -n 1 | tr -d '\r'
}

checksum() {
    sha256sum "$@" | cut -d' ' -f1
}

# A stamp is a file in what a finished step has made; it holds a value that
# stands for the step's inputs, and goes when what it speaks of goes.
stamp_is() {
    [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]
}

stamp_set() {
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

# linux_headers SOURCE DIR: DIR/usr/include is what userspace sees of a Linux.
linux_headers() {
    mkdir -p "$2"
    (
        flock 9
        quietly "$2/headers.log" make -s -C "$1" O="$2" \
            "HOSTCC=$(compiler gcc)" headers
    ) 9>"$2/.lock" ||
        die "the headers of '$1' can't be installed:" \
            "$(last_error "$2/headers.log") (see $2/headers.log)"
}

# need_space DIR MEGABYTES WHAT
need_space() {
    space_free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$space_free" -ge "$2" ] ||
        die "$3 needs $2 MB of disk and '$1' has $space_free MB free;" \
            "free some space, then run the same command again"
}
