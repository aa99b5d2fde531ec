# shellcheck shell=sh
# What the wrappers of the toolkit share. `toolkit` is where it is mounted. Nothing but a POSIX shell is there for certain: every
# other program may be missing from the image.

# Sets `machine`, for which this toolkit was assembled.
. "$toolkit/lib/machine.sh"

# Ends as a shell does that cannot find a program.
lacking() {
    echo "${0##*/}: $*" >&2
    exit 127
}

# Sets `node` to the build for the C library of this image.
choose_node() {
    case $machine in
        x86_64) glibc=/lib64/ld-linux-x86-64.so.2 ;;
        *) glibc=/lib/ld-linux-$machine.so.1 ;;
    esac
    musl=/lib/ld-musl-$machine.so.1
    # An image that is built on musl also calls it by this name, and a glibc beside it is only a guest there. Where the name
    # is missing, as on Debian with the package musl, it is the other way round.
    if [ ! -e "$glibc" ] || [ -e "/lib/libc.musl-$machine.so.1" ]; then
        [ -e "$musl" ] || lacking "this image has neither glibc ($glibc) nor musl ($musl), one of which Node.js needs"
        # An older one crashes at relocations that it does not know.
        said=$("$musl" 2>&1) || true
        version=${said#*Version }
        version=${version%%[!0-9.]*}
        case $version in
            0.* | 1.[01].* | 1.2.[0-3]) lacking "Node.js needs musl 1.2.4 or newer, and this image has $version" ;;
        esac
        node=$toolkit/musl/node/bin/node
    else
        node=$toolkit/glibc/node/bin/node
    fi
}

# Sets `home` to where caches go, and what is installed for the user: $HOME, or else a directory of this user's own for temporary
# files. Empty when there is neither; then the program itself says what it cannot write.
choose_home() {
    home=${HOME-}
    if [ -d "$home" ] && [ -w "$home" ]; then return; fi
    home=${TMPDIR:-/tmp}/toolkit-$(id -u 2>/dev/null || echo user)
    mkdir -m 0700 "$home" 2>/dev/null || true
    # What somebody else has put there would be run from it.
    if [ -L "$home" ] || [ ! -d "$home" ] || [ ! -O "$home" ]; then home=; fi
}

# What npm falls back to when neither its files nor its variables nor its arguments say otherwise. The toolkit, where
# npm would install global packages by itself, cannot be written.
npm_defaults() {
    choose_home
    TOOLKIT_NPM_CACHE=${home:-${HOME-}}/.npm
    if [ -w /usr/local ] || { [ ! -e /usr/local ] && [ -w /usr ]; }; then
        TOOLKIT_NPM_PREFIX=/usr/local
    else
        TOOLKIT_NPM_PREFIX=${home:-${HOME-}}/.local
    fi
    export TOOLKIT_NPM_CACHE TOOLKIT_NPM_PREFIX
}

# Where uv, and what it runs, find places to write when $HOME is none.
uv_defaults() {
    choose_home
    if [ -z "$home" ] || [ "$home" = "${HOME-}" ]; then return; fi
    export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$home/.cache}"
    export XDG_DATA_HOME="${XDG_DATA_HOME:-$home/.local/share}"
    export XDG_BIN_HOME="${XDG_BIN_HOME:-$home/.local/bin}"
}
