"""`edge-agent models …`: what of models lies here, also while the agent runs."""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.config import AgentConfig, load_config
from agent.models.cache import FOLDER_NAME, Cache
from agent.models.garbage import HeldRelease, bytes_of
from agent.models.journal import FILE_NAME as RECORDS
from agent.models.journal import RecordsFile
from runtime.errors import ConfigError, PermanentError

DIGITS_SHOWN = 12


def add_commands(models: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = models.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        command.set_defaults(run=run)
        return command

    ls = add("ls", "releases that lie here, and which pipeline runs or ran them", _ls)
    ls.add_argument("--json", action="store_true")
    add("verify", "read every file and check its hash; status 1 where one is damaged", _verify)
    rm = add("rm", "remove releases; what is wanted still is fetched again", _rm)
    rm.add_argument("releases", nargs="+", metavar="RELEASE", help="NAME@VERSION, or the first digits of a digest")
    rm.add_argument("--force", action="store_true", help="also what a pipeline runs, or ran before")


def _ls(arguments: argparse.Namespace) -> int:
    cache, users = _opened(arguments)
    held = sorted(cache.releases(), key=lambda one: (one.reference, one.digest))
    if arguments.json:
        shown = [
            {
                "model": one.reference, "digest": one.digest, "bytes": bytes_of([one]),
                "used_utc_ms": round(one.used_s * 1000), "pipelines": users.get(one.digest, []),
            }
            for one in held
        ]  # fmt: skip
        print(json.dumps(shown, indent=2))  # noqa: T201
        return 0
    for one in held:
        used = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.used_s))
        said = ", ".join(users.get(one.digest, [])) or "-"
        print(f"{one.reference}  {one.digest[:DIGITS_SHOWN]}  {bytes_of([one])} bytes  used {used}  {said}")  # noqa: T201
    print(f"{len(held)} releases, {bytes_of(held)} bytes in {cache.folder}")  # noqa: T201
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    cache, _ = _opened(arguments)
    wrong = 0
    for one in cache.releases():
        damaged = cache.damaged(one.digest)
        wrong += bool(damaged)
        said = f"damaged: {', '.join(damaged)}" if damaged else "sound"
        print(f"{one.reference}  {one.digest[:DIGITS_SHOWN]}  {said}")  # noqa: T201
    return 1 if wrong else 0


def _rm(arguments: argparse.Namespace) -> int:
    cache, users = _opened(arguments)
    chosen = [_only(cache.releases(), text) for text in arguments.releases]
    if not arguments.force and (used := [one for one in chosen if one.digest in users]):
        raise PermanentError(
            f"{used[0].reference} is of use: {', '.join(users[used[0].digest])}",
            hint="--force removes it all the same",
        )
    for one in chosen:
        cache.drop(one.digest)
        print(f"removed {one.reference} {one.digest}")  # noqa: T201
    cache.sweep(path.name for path in cache.folder.glob("parts/*"))
    return 0


def _only(held: Iterable[HeldRelease], text: str) -> HeldRelease:
    found = [one for one in held if one.reference == text or (len(text) >= 4 and one.digest.startswith(text))]
    if len(found) != 1:
        why = "lies not here" if not found else f"may be one of {len(found)}"
        raise ConfigError(f"{text!r} {why}", hint="`edge-agent models ls` shows what is here")
    return found[0]


def _opened(arguments: argparse.Namespace) -> tuple[Cache, dict[str, list[str]]]:
    """The cache, and by digest what pipelines have of it."""
    config: AgentConfig = load_config(arguments.config)
    users: dict[str, list[str]] = {}
    for title, record in RecordsFile(config.node.data_dir / RECORDS).read().items():
        refs = {"runs in": record.running, "ran before in": record.before}
        refs["on trial in"] = record.trial.ref if record.trial else None
        for how, ref in refs.items():
            if ref is not None:
                users.setdefault(ref.digest, []).append(f"{how} {title}")
    return Cache(config.models.dir or config.node.data_dir / FOLDER_NAME), users
