# SPDX-License-Identifier: GPL-2.0-or-later
#
# Prepared source trees.
#
# build/src/NAME is a git tree with one commit for the base (tag "base") and
# one for each patch of the series on top (tag "applied" marks the last one).
# The overlay's files are links to the repository that git does not see.
#
# A tree appears under its name only when it is whole, and moves from one state
# of the series to the next in one step.  Sourced after apt.sh.

# tree_select NAME: set what the functions below work on.
tree_select() {
    name=$1
    tree=$build/src/$name
    base_stamp=$tree/.git/base.inputs
    series_stamp=$tree/.git/series.inputs
    case $name in
    qemu)
        title=QEMU
        tree_builds=$build/qemu
        series=$top/patches
        series_path=patches
        overlay="accel docs hw include linux-headers migration monitor qapi system target tests"
        ;;
    linux)
        title=Linux
        tree_builds="$build/linux-* $build/kvm-* $build/selftests* $build/unpatched"
        series_path=linux-headers/series/linux-6.12
        series=$top/$series_path
        overlay=
        ;;
    esac
}

base_value() {
    sed -n "s/^$2  *//p" "$top/base/$1"
}

# base_sha256 NAME VERSION: the checksum on record, or nothing.
base_sha256() {
    base_value "$1" sha256 | awk -v v="${2#*:}" '$1 == v { print $2 }'
}

# base_verify NAME VERSION TARBALL: its checksum is the one on record.  One that
# is not on record is kept for base_say_checksum.
base_verify() {
    want=$(base_sha256 "$1" "$2")
    [ -n "$want" ] || {
        checksum "$3" >"$base_files/.sha256"
        return
    }
    [ "$(checksum "$3")" = "$want" ] || {
        echo "error: the tarball does not have the checksum in base/$1"
        return 1
    }
}

# base_say_checksum NAME: what is missing in base/NAME, in its form
base_say_checksum() {
    [ -e "$base_files/.sha256" ] || return 0
    say "base/$1 has no checksum for it; it is signed, and its line would be:"
    say "sha256   ${base_version#*:} $(cat "$base_files/.sha256")"
}

# base_locate NAME PACKAGE KIND SUITES: set apt_version to the version that the
# fork is made for or, when no mirror has that any more, to one after it.
base_locate() {
    wanted=$(base_value "$1" version)
    newer=$(base_value "$1" newer)
    apt_locate "$2" "$3" "$wanted" "$4" && return
    [ -n "$newer" ] && apt_locate "$2" "$3" "$newer" "$4" "$wanted"
}

# base_fetch NAME: set base_version and base_files, a folder with the package.
base_fetch() {
    kind=$(base_value "$1" kind)
    base_files=$build/base/$1
    wanted_inputs=$(checksum "$top/base/$1")
    if stamp_is "$base_files/.inputs" "$wanted_inputs"; then
        base_version=$(cat "$base_files/.version")
        return
    fi
    package=$(base_value "$1" package)
    suites=$(base_value "$1" suite)
    base_locate "$1" "$package" "$kind" "$suites" ||
        die "no $package $wanted${newer:+ or newer} in $suites of this machine's" \
            "Debian mirror; correct base/$1, or give the source with --$1-source"
    base_version=$apt_version
    say "Fetching $package $base_version"
    rm -rf "$base_files" "$build/base/.$1"
    mkdir -p "$build/base/.$1"
    apt_download "$package" "$kind" "$base_version" "$build/base/.$1" ||
        die "$package $base_version could not be fetched:" \
            "$(last_error "$apt_log"); run the same command again"
    echo "$base_version" >"$build/base/.$1/.version"
    stamp_set "$build/base/.$1/.inputs" "$wanted_inputs"
    mv "$build/base/.$1" "$base_files"
}

# base_unpack NAME DIR: Debian's package of the base, with Debian's patches.
base_unpack() {
    if [ "$kind" = source ]; then
        base_verify "$1" "$base_version" "$base_files"/*.orig.tar.xz &&
            dpkg-source --no-copy -x "$base_files"/*.dsc "$2"
        return
    fi
    if [ "$kind" = tarball ]; then
        base_verify "$1" "$base_version" "$base_files"/*.orig.tar.xz &&
            mkdir "$2" &&
            tar -xf "$base_files"/*.orig.tar.xz --strip-components=1 -C "$2"
        return
    fi
    tarball=$(base_value "$1" tarball)
    dpkg-deb --fsys-tarfile "$base_files"/*.deb |
        tar -xO "./$tarball" >"$2.tar.xz" &&
        base_verify "$1" "$base_version" "$2.tar.xz" &&
        mkdir "$2" &&
        tar -xf "$2.tar.xz" --strip-components=1 -C "$2" &&
        rm "$2.tar.xz"
}

# source_unpack SOURCE DIR: a source that the user gave.
source_unpack() {
    mkdir "$2" || return
    if [ -d "$1" ]; then
        tar -c --exclude=./.git --exclude=./build -C "$1" . | tar -x -C "$2"
    else
        tar -xf "$1" --strip-components=1 -C "$2"
    fi
}

# The version that a source tree says it is.
source_version() {
    case $name in
    qemu) cat "$1/VERSION" ;;
    linux)
        awk '/^(VERSION|PATCHLEVEL|SUBLEVEL) =/ { v = v s $3; s = "." }
             /^NAME/ { print v; exit }' "$1/Makefile"
        ;;
    esac 2>/dev/null
}

# The version that the series is made for is taken as it is, others of its line
# are tried.
source_check_version() {
    found=$(source_version "$1")
    wanted=$(base_value "$name" version)
    newer=$(base_value "$name" newer)
    # shellcheck disable=SC2254  # a pattern is what it is
    case $found in
    $wanted) ;;
    ${newer:-$wanted}) say "$title: the series is made for $wanted; trying $found" ;;
    *) die "$2 is $title '${found:-unknown}', and this fork is laid over" \
        "$title ${newer:-$wanted}; give such a source with --$name-source" ;;
    esac
}

# tree_git ARGS...: git in the prepared tree.
tree_git() {
    git -C "$tree" "$@"
}

# Work in the tree that is not in patches/ must never be thrown away.
tree_check_clean() {
    tree_unexported=
    [ "$(tree_git rev-parse HEAD)" = "$(tree_git rev-parse applied)" ] ||
        tree_unexported="commits"
    [ -z "$(tree_git status --porcelain)" ] ||
        tree_unexported="${tree_unexported:+$tree_unexported and }uncommitted edits"
    [ -z "$tree_unexported" ] ||
        die "build/src/$name has $tree_unexported that $series_path does not;" \
            "commit and 'make export-patches', or drop them with" \
            "'git -C build/src/$name reset --hard applied'"
}

# tree_commit_base DIR ID: make DIR a git tree with the base as its one commit.
tree_commit_base() {
    git init -q -b fork "$1" &&
        git -C "$1" config gc.auto 0 &&
        git -C "$1" config core.compression 0 &&
        git -C "$1" config core.looseCompression 0 &&
        git -C "$1" add -A -f . &&
        GIT_AUTHOR_NAME=base GIT_AUTHOR_EMAIL=base@localhost \
            GIT_AUTHOR_DATE='2000-01-01T00:00:00Z' \
            GIT_COMMITTER_DATE='2000-01-01T00:00:00Z' \
            git -C "$1" commit -q --no-verify -m "$2" &&
        git -C "$1" tag base &&
        git -C "$1" tag applied
}

# What the prepared base depends on, as one word.
base_inputs() {
    if [ -z "$1" ]; then
        checksum "$top/base/$name"
    elif [ -d "$1" ]; then
        echo "$1:$(source_version "$1")"
    else
        checksum "$1"
    fi
}

# tree_prepare SOURCE: build/src/NAME at its base.  SOURCE is a directory or a
# tarball, or empty for Debian's package.
tree_prepare() {
    inputs=$(base_inputs "$1")
    stamp_is "$base_stamp" "$inputs" && return
    [ -d "$tree" ] && tree_check_clean
    need_space "$build" 4000 "preparing $title"
    new=$build/src/.$name
    rm -rf "$new" "$new".*
    mkdir -p "$build/src"
    if [ -z "$1" ]; then
        base_fetch "$name"
        id="$name $base_version"
        say "Unpacking $id"
        quietly "$build/unpack.log" base_unpack "$name" "$new" ||
            die "$id could not be unpacked: $(last_error "$build/unpack.log")" \
                "(see $build/unpack.log); run the same command again"
        base_say_checksum "$name"
    else
        [ -e "$1" ] || die "'$1' does not exist; give a source with --$name-source"
        say "Copying $1"
        quietly "$build/unpack.log" source_unpack "$1" "$new" ||
            die "'$1' could not be read: $(last_error "$build/unpack.log");" \
                "--$name-source takes a source directory or a tarball"
        id="$name $(source_version "$new"), given by the user"
    fi
    source_check_version "$new" "${1:-$id}"
    quietly "$build/unpack.log" tree_commit_base "$new" "$id" ||
        die "$id could not be committed: $(last_error "$build/unpack.log")" \
            "(see $build/unpack.log)"
    # Its files have the times of the package, which may be older than what was
    # built from the base before; make would take that for current.
    # shellcheck disable=SC2086  # a pattern
    rm -rf "$tree" $tree_builds "$build/check"
    mv "$new" "$tree"
    stamp_set "$base_stamp" "$inputs"
}

# The overlay's files, relative to the repository's root.
overlay_files() {
    (
        cd "$top" || exit
        for dir in $overlay; do
            [ ! -d "$dir" ] || find "$dir" -type f ! -path 'linux-headers/series/*' \
                ! -path linux-headers/check-uapi ! -name '*.orig' \
                ! -name '*.rej' ! -name '*~' ! -path '*/__pycache__/*'
        done
    ) | sort
}

# overlay_link DIR FILE: one file of the overlay into a tree.
overlay_link() {
    mkdir -p "$(dirname "$1/$2")"
    ln -sfn "$(realpath --relative-to="$(dirname "$1/$2")" "$top/$2")" "$1/$2"
}

# overlay_lay DIR: link the whole overlay into a tree, and unlink what has left.
overlay_lay() {
    exclude=$(git -C "$1" rev-parse --path-format=absolute --git-common-dir)/info/exclude
    overlay_files >"$1/.git-overlay.new"
    while read -r file; do
        ! git -C "$1" cat-file -e "base:$file" 2>/dev/null ||
            die "'$file' is a file of $title itself and can't be in the" \
                "overlay; change it by a patch in $series_path"
        [ -L "$1/$file" ] || overlay_link "$1" "$file"
    done <"$1/.git-overlay.new"
    [ ! -e "$1/.git-overlay" ] ||
        comm -23 "$1/.git-overlay" "$1/.git-overlay.new" |
        while read -r file; do rm -f "$1/$file"; done
    mv "$1/.git-overlay.new" "$1/.git-overlay"
    {
        echo '/.git-overlay*'
        sed 's,^,/,' "$1/.git-overlay"
    } >"$exclude"
}

series_files() {
    find "$series" -maxdepth 1 -name '*.patch' 2>/dev/null | sort
}

# What the applied series depends on: the base and every patch.
series_inputs() {
    {
        tree_git rev-parse base
        for patch in $(series_files); do
            basename "$patch"
            cat "$patch"
        done
    } | checksum
}

# scratch_make DIR: a work tree at the base with just the files that the series
# touches, so that a series is tried in a second even on Linux.
scratch_make() {
    scratch_drop "$1"
    {
        # Git's own files there say what is ignored, and how hunks are named.
        printf '/%s\n' .gitattributes .gitignore
        for patch in $(series_files); do
            git apply --numstat "$patch" | cut -f3 | sed 's,^,/,'
        done
    } | sort -u >"$build/.sparse"
    tree_git worktree add -q --no-checkout --detach "$1" base &&
        git -C "$1" sparse-checkout set --no-cone --stdin <"$build/.sparse" &&
        git -C "$1" read-tree -mu HEAD
}

scratch_drop() {
    tree_git worktree remove --force "$1" 2>/dev/null || rm -rf "$1"
    tree_git worktree prune
}

# base_tree DIR: a whole work tree at the base, without the series.
base_tree() {
    [ "$(git -C "$1" rev-parse -q HEAD 2>/dev/null)" = "$(tree_git rev-parse base)" ] &&
        return
    need_space "$build" 3000 "$title without the series"
    scratch_drop "$1"
    scratch_drop "$1.new"
    mkdir -p "$(dirname "$1")"
    say "$title: checking out $(tree_git log -1 --format=%s base)"
    tree_git worktree add -q --detach "$1.new" base
    tree_git worktree move "$1.new" "$1"
}

# series_am DIR: apply the series there; git am takes no fuzz.
series_am() {
    for patch in $(series_files); do
        quietly "$build/am.log" git -C "$1" am --keep-non-patch \
            --committer-date-is-author-date "$patch" && continue
        scratch_drop "$1"
        series_failed "$patch"
    done
}

# series_failed PATCH: say where it does not apply, and whose fault that is.
series_failed() {
    wanted=$(base_value "$name" version)
    where=$(failed_files "$build/am.log")
    set -- "$series_path/$(basename "$1") does not apply to" \
        "'$(tree_git log -1 --format=%s base)'${where:+ in $where}" \
        "(see $build/am.log);"
    # shellcheck disable=SC2254  # a pattern is what it is
    case $(source_version "$tree") in
    $wanted) die "$@" "correct the patch, then run the same command again" ;;
    *) die "$@" "the series is made for $wanted: redo the patch as" \
        "CONTRIBUTING.md says under 'A new stable update', or give" \
        "a $title $wanted with --$name-source" ;;
    esac
}

# failed_files LOG: the files that git am could not change.
failed_files() {
    sed -n -e 's/^error: patch failed: \(.*\):[0-9]*$/\1/p' \
        -e 's/^error: \(.*\): \(does not exist in index\|already exists in index\|No such file or directory\)$/\1/p' \
        "$1" | sort -u | xargs
}

# series_apply: bring the prepared tree to the series as it stands in the
# repository.  Only files that differ are written.  The same series always gives
# the same commits, so a run that was killed before the stamp is no harm.
series_apply() {
    inputs=$(series_inputs)
    stamp_is "$series_stamp" "$inputs" && return
    scratch=$build/src/.$name-am
    quietly "$build/am.log" scratch_make "$scratch" ||
        die "no work tree for the $title patches: $(last_error "$build/am.log")" \
            "(see $build/am.log)"
    series_am "$scratch"
    applied=$(git -C "$scratch" rev-parse HEAD)
    scratch_drop "$scratch"
    [ "$(tree_git rev-parse HEAD)" = "$applied" ] || {
        tree_check_clean
        tree_git reset -q --keep "$applied"
    }
    tree_git tag -f applied >/dev/null
    stamp_set "$series_stamp" "$inputs"
    say "$title: $(series_files | wc -l) patches on $(tree_git log -1 --format=%s base)"
}
