#!/usr/bin/env bash
# Installs or upgrades the agent or the coordinator as a systemd service.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=deploy/lib.sh
. "$here/lib.sh"

usage() {
    cat <<'END'
usage: deploy/install.sh agent|coordinator [--prefix DIR] [--no-start] [--root DIR]

  --prefix DIR  where the program goes (default /opt/edgewright): DIR/agent or DIR/coordinator
  --no-start    do not restart a service that is enabled, after an upgrade
  --root DIR    put every file beneath DIR and leave this machine alone: no packages, users or services (for tests)

Program in its own virtual environment, configuration /etc/edgewright/agent.toml (or coordinator.toml; an existing
one is never changed), data in /var/lib/edgewright-agent (or -coordinator). Run it again to upgrade.
END
}

# The service's user must be able to read the program, whatever root's habit is.
umask 022
parse_place --no-start "$@"
no_start="$flag"
sample="$here/$service.toml"
[ -r "$sample" ] || die "the sample configuration $sample is missing: is this a whole checkout?"

if [ -z "$root" ]; then
    packages=(python3-venv)
    if [ "$service" = agent ]; then packages+=(ffmpeg); fi
    install_packages "${packages[@]}"

    # systemd refuses a unit that names an unknown group; the device groups come with packages that may be absent.
    if [ "$service" = agent ]; then
        for group in video render plugdev apex gpio; do
            getent group "$group" >/dev/null || { say "adding the group $group" && groupadd --system "$group"; }
        done
    fi
    if ! getent passwd "$user" >/dev/null; then
        say "adding the user $user"
        useradd --system --user-group --no-create-home --home-dir "$state" --shell /usr/sbin/nologin "$user"
    fi
fi

mkdir -p "$(dirname "$venv")"
make_venv "$venv"
install_locks "$venv" build "$service"

# Built from a copy: a build leaves files beside its sources, and the checkout may be read-only.
say "installing edgewright into $venv"
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
(cd "$ROOT" && cp -R pyproject.toml README.md LICENSE schemas runtime platforms agent coordinator "$copy/")
quietly "$venv/bin/python" -m pip install --no-deps --no-build-isolation --force-reinstall "$copy" ||
    die "pip could not install the project into $venv"
"$venv/bin/edge-$service" --help >/dev/null || die "$venv/bin/edge-$service does not run, see above"

mkdir -p "$(dirname "$config")" "$(dirname "$unit_file")"
if [ -e "$config" ]; then
    say "keeping your configuration $config (this version's sample: $sample)"
else
    say "putting a sample configuration into $config"
    install -m 0640 "$sample" "$config"
    if [ -z "$root" ]; then chgrp "$user" "$config"; fi
fi
if [ ! -e "$secrets" ]; then
    (umask 077 && echo "# Secrets for $unit, one KEY=value per line; only root can read this file." >"$secrets")
fi
sed "s#^ExecStart=/opt/edgewright/#ExecStart=$prefix/#" "$here/systemd/$unit" >"$unit_file.new"
chmod 0644 "$unit_file.new"
mv "$unit_file.new" "$unit_file"

if on_systemd; then
    systemctl daemon-reload
    # The first start is yours, after the configuration; from then on an upgrade takes effect at once.
    if [ "$no_start" = no ] && systemctl is-enabled --quiet "$unit"; then
        systemctl restart "$unit" || die "$unit did not start; see: journalctl -u $unit -n 50"
        say "done: $unit runs this version; follow it with: journalctl -fu $unit"
        exit 0
    fi
fi
say "done. Next: edit $config, put secrets into $secrets, then: systemctl enable --now $unit"
