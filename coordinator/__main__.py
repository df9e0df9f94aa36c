"""`edge-coordinator`: run the broker-side process; check its configuration and store, back that up, restore it."""

import argparse
import asyncio
import faulthandler
import sys
from collections.abc import Callable
from pathlib import Path

from coordinator.config import CoordinatorConfig, load_config, platforms_table
from platforms.assembly import Assembly, assemble
from platforms.checking import Here
from platforms.errors import PlatformError
from runtime.config import mistakes_error
from runtime.errors import ConfigError, EdgewrightError
from runtime.logs import setup_logging

EXIT_FAILED = 1
EXIT_USAGE = 2  # wrong arguments or configuration: the unit does not start us again for it


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status; errors that a person can mend are one message, not a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except EdgewrightError as error:
        print(f"edge-coordinator: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-coordinator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="coordinator.toml")
        command.set_defaults(run=run)
        return command

    run = add("run", "run the coordinator until it is told to stop", _run)
    check = add("check", "check a configuration and report every mistake", _check)
    for command in (run, check):
        command.add_argument("--instance", default="", metavar="NAME", help="in place of coordinator.instance")
    check.add_argument("--store", action="store_true", help="and the store, all of it")
    check.add_argument("--backup", type=Path, metavar="FILE", help="and this backup, in the same way")
    taken = add("backup", "write the store to a new file, also while the coordinator runs", _backup)
    taken.add_argument("file", type=Path, metavar="BACKUP")
    back = add("restore", "put a backup back; the coordinator must not run", _restore)
    back.add_argument("file", type=Path, metavar="BACKUP")
    back.add_argument("--force", action="store_true", help="also where there is a store, which gives way")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    path = arguments.config
    faulthandler.enable()  # systemd's watchdog ends a hung process with SIGABRT: the journal then shows where it hung
    config = load_config(path, arguments.instance)
    passwords = [one.address(place).password for place, one in config.named_brokers()]
    secrets = [text for text in (*passwords, *config.evidence.keys()) if text]
    secrets += config.store.secrets()
    setup_logging(config.log.level, form=config.log.form, secrets=secrets)
    assembly = _assembly(config, path)
    from coordinator.coordinator import run

    asyncio.run(run(config, assembly))
    return 0


def _assembly(config: CoordinatorConfig, path: Path) -> Assembly:
    try:
        return assemble(platforms_table(config, path))
    except PlatformError as error:
        raise mistakes_error(path, [f"platforms: {line}" for line in str(error).splitlines()]) from error


def _check(arguments: argparse.Namespace) -> int:
    path = arguments.config
    config = load_config(path, arguments.instance)
    config.evidence.keys()
    settings = platforms_table(config, path).settings
    if mistakes := _assembly(config, path).settings_mistakes(settings, Here()):
        raise mistakes_error(path, mistakes)
    _say(f"{path}: fine")
    from coordinator.store.checking import check_backup, check_store

    found: list[str] = []
    if arguments.store:
        found += check_store(config.place)
    if arguments.backup is not None:
        found += check_backup(arguments.backup)
    for problem in found:
        _say(problem)
    if not found and (arguments.store or arguments.backup):
        _say("the store is sound" if arguments.store else f"{arguments.backup} is sound")
    return EXIT_FAILED if found else 0


def _backup(arguments: argparse.Namespace) -> int:
    from coordinator.store.backup import back_up

    counts = back_up(load_config(arguments.config).place, arguments.file)
    _say(f"{arguments.file}: {sum(counts.values())} rows of {len(counts)} tables")
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from coordinator.store.backup import restore

    config = load_config(arguments.config)
    counts = restore(arguments.file, config.place, config.coordinator.data_dir, force=arguments.force)
    _say(f"put back: {sum(counts.values())} rows of {len(counts)} tables; docs/store.md says what begins anew")
    return 0


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
