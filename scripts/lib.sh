# Shared by the scripts of this folder and of deploy/: source it, it does nothing by itself.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Package tools must neither ask nor print progress bars.
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# Daemons live in /usr/sbin, which is not on the PATH of an ordinary user.
have() { PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# quietly COMMAND...: show what it wrote only if it fails.
quietly() {
    local written
    written="$("$@" 2>&1 </dev/null)" || {
        local status=$?
        printf '%s\n' "$written" >&2
        return "$status"
    }
}

# as_root COMMAND...: run it as root, by sudo where we are somebody else.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@" </dev/null
    elif have sudo; then
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@" </dev/null; fi
    else
        return 127
    fi
}

# find_python: print the command of a Python that is new enough, PYTHON first.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# install_packages PACKAGE...: through apt, those that are not there yet.
install_packages() {
    local package missing=() fresh_mosquitto=no fresh_postgresql=no
    for package in "$@"; do
        package_is_here "$package" || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    have apt-get || die "these are missing, and there is no apt-get to install them: ${missing[*]}; install what they hold by hand"
    as_root true 2>/dev/null ||
        die "root is needed once: run 'apt-get install ${missing[*]}' as root or with sudo, then start this again"
    say "installing through apt: ${missing[*]}"
    case " ${missing[*]} " in *" mosquitto "*) fresh_mosquitto=yes ;; esac
    case " ${missing[*]} " in *" postgresql "*) fresh_postgresql=yes ;; esac
    quietly as_root apt-get -q update || die "apt-get update failed; is there a network?"
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]}"
    if [ "$fresh_mosquitto" = yes ]; then disable_system_service mosquitto; fi
    if [ "$fresh_postgresql" = yes ]; then disable_system_service postgresql; fi
}

# A package counts as here when its program is, wherever that came from.
package_is_here() {
    case "$1" in
    mosquitto | ffmpeg | sqlite3 | gcc) have "$1" ;;
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
    mosquitto-clients) have mosquitto_pub && have mosquitto_sub ;;
    python3-venv) "$(find_python || echo false)" -c 'import ensurepip, venv' 2>/dev/null ;;
    *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
    esac
}

# Debian starts a broker or a database as soon as the package is installed. We start our own where we need one, so
# a service that came only through us is switched off again; one that was there before is never touched.
disable_system_service() {
    say "switching off the system-wide $1 service that the package has enabled; nothing here needs it"
    if have systemctl && [ -d /run/systemd/system ]; then
        as_root systemctl -q disable --now "$1.service" || say "warning: could not disable $1.service"
    else
        if have systemctl; then as_root systemctl -q disable "$1.service" >/dev/null 2>&1 || true; fi
        if have service; then as_root service "$1" stop >/dev/null 2>&1 || true; fi
        if have update-rc.d; then as_root update-rc.d "$1" disable >/dev/null 2>&1 || true; fi
    fi
}

# make_venv FOLDER: create it if absent, or again if its Python is gone.
make_venv() {
    local python
    [ -x "$1/bin/python" ] && "$1/bin/python" -c 'import pip' 2>/dev/null && return
    python="$(find_python)" || die "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"
    say "creating the virtual environment $1 with $("$python" --version)"
    "$python" -m venv --clear "$1" || die "cannot create $1; is python3-venv installed?"
}

# install_locks VENV NAME...: install lock/NAME.txt, hashes checked, where that was not done already.
install_locks() {
    local venv="$1" name wanted=() stamps="$1/.edgewright-locks"
    shift
    mkdir -p "$stamps"
    for name in "$@"; do
        lock_is_installed "$venv" "$name" || wanted+=("$name")
    done
    if [ "${#wanted[@]}" -eq 0 ]; then
        say "Python packages are up to date ($*)"
        return
    fi
    for name in "${wanted[@]}"; do
        say "installing Python packages from lock/$name.txt, hashes checked"
        # Half an installation must not count as a whole one.
        rm -f "$stamps/$name"
        quietly "$venv/bin/python" -m pip install --quiet --require-hashes --requirement "$ROOT/lock/$name.txt" ||
            die "pip could not install lock/$name.txt into $venv"
        lock_digest "$name" >"$stamps/$name"
    done
}

lock_digest() { sha256sum <"$ROOT/lock/$1.txt" | cut -d' ' -f1; }

lock_is_installed() { [ "$(cat "$1/.edgewright-locks/$2" 2>/dev/null)" = "$(lock_digest "$2")" ]; }
