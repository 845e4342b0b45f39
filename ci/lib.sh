# shellcheck shell=bash
# What the scripts of ci/ share: stages with their time, and getting what a fresh Debian 12 lacks.
# Sourced after `cd` to the top of the checkout.

readonly POSTGRES_BIN=/usr/lib/postgresql/15/bin
readonly LOGS=target/ci-logs

say() {
    printf '%s\n' "$*"
}

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# stage NAME COMMAND…: runs COMMAND quietly; prints the name and the seconds it took, or its output when it fails.
stage() {
    local name=$1 log began=$SECONDS
    log="$LOGS/${1//[^a-zA-Z0-9]/-}.log"
    shift
    mkdir -p "$LOGS"
    printf '%-58s' "$name"
    # Not `if "$@"`: a condition would switch `set -e` off inside COMMAND.
    set +e
    (set -e; "$@") >"$log" 2>&1
    local status=$?
    set -e
    if [ $status -eq 0 ]; then
        printf '%6d s\n' $((SECONDS - began))
        return
    fi
    printf '  FAILED after %d s\n' $((SECONDS - began))
    tail -n 200 "$log"
    fail "stage \"$name\" failed; all of its output is in $log"
}

need_rust() {
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null || fail "Rust is missing: install it from https://rustup.rs"
}

# The parts of the toolchain that a minimal rustup installation leaves out.
need_rust_tools() {
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

# The Debian package that provides what a script needs, when it is not there yet.
lacking_package() {
    case $1 in
        compiler) { command -v cc && [ -e /usr/include/stdio.h ]; } >/dev/null || say gcc libc6-dev ;;
        postgresql) [ -x "$POSTGRES_BIN/postgres" ] || say postgresql-15 ;;
        venv) python3 -c 'import ensurepip' 2>/dev/null || say python3 python3-venv ;;
        *) command -v "$1" >/dev/null || say "$1" ;;
    esac
}

# need TOOL…: installs the packages of missing tools as root; says what is missing otherwise.
need() {
    local tool packages=()
    for tool in "$@"; do
        # shellcheck disable=SC2207 # package names are plain words
        packages+=($(lacking_package "$tool"))
    done
    if [ ${#packages[@]} -eq 0 ]; then
        return
    fi
    [ "$(id -u)" -eq 0 ] || fail "missing Debian packages; as root: apt-get install ${packages[*]}"
    command -v apt-get >/dev/null || fail "missing, and no apt-get here to install: ${packages[*]}"
    install_packages "${packages[@]}"
}

install_packages() {
    local no_cluster=/etc/postgresql-common/createcluster.d/walrs-ci.conf status=0
    # Debian starts a server on port 5432 with a new installation; nobody asked for that one.
    mkdir -p "${no_cluster%/*}"
    printf 'create_main_cluster = false\n' >"$no_cluster"
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" || status=$?
    rm "$no_cluster"
    return $status
}

# In front of a command: runs it in `/` as the user of throw-away servers (postgres when root, else the current one),
# with an empty environment but for the NAME=VALUE words that follow. An array and no function, so that `&` yields the
# id of the command itself.
# shellcheck disable=SC2034 # for the scripts that source this
AS_SERVER=(env -i -C / PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C)
if [ "$(id -u)" -eq 0 ]; then
    AS_SERVER=(setpriv --reuid=postgres --regid=postgres --clear-groups "${AS_SERVER[@]}")
fi
