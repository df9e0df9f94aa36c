"""`edge-coordinator`: run the broker-side process, or check its configuration."""

import argparse
import asyncio
import faulthandler
import sys
from pathlib import Path

from coordinator.config import CoordinatorConfig, load_config, platforms_table
from platforms.assembly import Assembly, assemble
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
        return int(arguments.run(arguments.config))
    except EdgewrightError as error:
        print(f"edge-coordinator: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-coordinator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text, run in (
        ("run", "run the coordinator until it is told to stop", _run),
        ("check", "check a configuration and report every mistake", _check),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="coordinator.toml")
        command.set_defaults(run=run)
    return parser


def _run(path: Path) -> int:
    faulthandler.enable()  # systemd's watchdog ends a hung process with SIGABRT: the journal then shows where it hung
    config = load_config(path)
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


def _check(path: Path) -> int:
    config = load_config(path)
    config.evidence.keys()
    _assembly(config, path)
    print(f"{path}: fine")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
