# shellcheck shell=bash
# What the scripts of this repository share. Source it: . "$(dirname "$0")/lib.sh"

# The repository, wherever the script was called from.
root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where everything that is built or fetched goes.
target_dir=${CARGO_TARGET_DIR:-$root_dir/target}
case $target_dir in
    /*) ;;
    *) target_dir=$PWD/$target_dir ;;
esac
export CARGO_TARGET_DIR=$target_dir
# The scripts build the whole tree: what rustc would keep for the next small change is 20 GB, and makes the build longer.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
# Python's tools, and the cargo tools that come as wheels.
venv_dir=$target_dir/venv

# Tells a step. Steps go to standard error, results to standard output.
say() {
    if [ -t 2 ]; then printf '\033[1m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi
}

# Ends the script with a reason.
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Whether a program can be run.
have() {
    command -v "$1" >/dev/null 2>&1
}

# Runs a command quietly; what it says is shown when it fails.
quietly() {
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    else
        local code=$?
        cat "$log" >&2
        rm -f "$log"
        return "$code"
    fi
}

# Builds the harness once and prints the path of its program.
harness() {
    (cd "$root_dir" && cargo build --quiet --locked -p dunnage-harness --bin dunnage-harness) >&2 || return
    printf '%s\n' "$target_dir/debug/dunnage-harness"
}

# Puts the tools of the virtual environment first in PATH.
use_venv() {
    [ -x "$venv_dir/bin/python" ] || die "there is no $venv_dir: run scripts/setup"
    PATH=$venv_dir/bin:$PATH
    export PATH
}

# At least version $2, given $1; both as numbers with dots.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}
