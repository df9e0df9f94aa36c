#!/usr/bin/env bash
# Removes what install.sh installed; keeps configuration and data unless --purge is given.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=deploy/lib.sh
. "$here/lib.sh"

usage() {
    cat <<'END'
usage: deploy/uninstall.sh agent|coordinator [--prefix DIR] [--purge] [--root DIR]

  --prefix DIR  where the program was installed (default /opt/edgewright)
  --purge       also delete its configuration, its secrets, all its data and its user
  --root DIR    the same folder as install.sh was given (for tests)
END
}

parse_place --purge "$@"
purge="$flag"

if on_systemd && [ -e "$unit_file" ]; then
    say "stopping $unit"
    systemctl disable --quiet --now "$unit" || die "$unit does not stop; see: journalctl -u $unit -n 50"
fi
if [ -e "$unit_file" ]; then
    rm -f "$unit_file"
    if on_systemd; then systemctl daemon-reload; fi
fi

if [ -d "$venv/.edgewright-locks" ]; then
    say "removing $venv"
    rm -rf "$venv"
    rmdir "$(dirname "$venv")" 2>/dev/null || true # the other service may live there too
elif [ -e "$venv" ]; then
    die "$venv was not made by install.sh: not removed"
else
    say "nothing is installed in $venv"
fi

rm -rf "$cache"

if [ "$purge" = yes ]; then
    say "deleting $config, $secrets and all data in $state"
    rm -rf "$config" "$secrets" "$state"
    rmdir "$(dirname "$config")" 2>/dev/null || true
    if [ -z "$root" ] && getent passwd "$user" >/dev/null; then
        say "deleting the user $user"
        userdel "$user"
    fi
else
    say "kept: $(dirname "$config") and $state; --purge deletes them"
fi
say "done"
