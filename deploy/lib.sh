# Shared by install.sh and uninstall.sh: what is installed where. Source it after scripts/lib.sh.
# shellcheck shell=bash disable=SC2034

# parse_place ALLOWED_FLAG "$@": sets service, prefix, root (empty: this machine) and flag (yes or no).
parse_place() {
    local allowed_flag="$1"
    shift
    service="" prefix="/opt/edgewright" root="" flag="no"
    while [ $# -gt 0 ]; do
        case "$1" in
        agent | coordinator) service="$1" && shift ;;
        --prefix | --root)
            [ $# -ge 2 ] || die "$1 needs a folder"
            case "$2" in /*) ;; *) die "$1 needs an absolute path, not '$2'" ;; esac
            if [ "$1" = --prefix ]; then prefix="${2%/}"; else root="${2%/}"; fi
            shift 2
            ;;
        "$allowed_flag") flag="yes" && shift ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && die "unknown argument: $1" ;;
        esac
    done
    [ -n "$service" ] || { usage >&2 && die "say which: agent or coordinator"; }
    # The units see no home folder (ProtectHome=), and their own /tmp.
    case "$prefix/" in
    /home/* | /root/* | /tmp/* | /var/tmp/* | /) die "--prefix $prefix: the service could not see it there; /opt/edgewright is the usual place" ;;
    esac

    unit="edge-$service.service"
    user="edgewright-$service"
    venv="$root$prefix/$service"
    config="$root/etc/edgewright/$service.toml"
    secrets="$root/etc/edgewright/$service.env"
    unit_file="$root/etc/systemd/system/$unit"
    state="$root/var/lib/edgewright-$service"
    cache="$root/var/cache/edgewright-$service"

    [ -n "$root" ] || [ "$(id -u)" -eq 0 ] || die "run it as root (for instance: sudo $0 $service)"
}

# Is this machine ours to change, and does systemd run it?
on_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ] && have systemctl; }
