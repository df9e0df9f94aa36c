"""`edgectl evidence …`: what evidence there is, a file of it, and asking a node for one."""

import argparse
import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

from coordinator.config import CoordinatorConfig
from coordinator.ctl import arguments
from coordinator.ctl.arguments import UsageError
from coordinator.ctl.call import call
from coordinator.ctl.tables import age, local_time, table
from coordinator.ctl.whereabouts import broker_of
from coordinator.evidence.places import SPOOL_NAME, open_backend
from coordinator.evidence.settings import EvidenceTable
from coordinator.evidence.spool import READ_BYTES, Spool
from coordinator.store.evidence import SPOOLED, EvidenceFilter, EvidenceRow
from coordinator.store.reader import Reader
from runtime.errors import PermanentError, TemporaryError
from schemas.blobs import is_digest
from schemas.messages import Command, CommandState
from schemas.topics import TopicSpace

LOOK_EVERY_S = 0.2
Add = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def add_commands(parser: argparse.ArgumentParser, open_: "Opener") -> None:
    """`ls`, `get` and `fetch`. `open_` finds the store and the configuration."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace, Opener], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=lambda parsed: run(parsed, open_))
        return command

    ls = add("ls", "files that are here, the newest last", _ls)
    ls.add_argument("node", nargs="?", default="", metavar="NODE", help="of one node")
    ls.add_argument("--event", default="", metavar="ID", help="that belong to this event")
    ls.add_argument("--camera", default="", metavar="ID", help="of one camera")
    ls.add_argument("--since", default="", metavar="WHEN", help="90s, 5m, 2h, 3d, or an ISO time")
    ls.add_argument("--limit", type=int, default=50, help="the newest so many (default 50)")
    ls.add_argument("--json", action="store_true", help="JSON instead of a table")
    get = add("get", "writes a file that is here, and checks its hash", _get)
    get.add_argument("sha256", metavar="SHA256", help="or the first digits of it")
    get.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
    fetch = add("fetch", "asks a node for a file and waits until it is here", _fetch)
    fetch.add_argument("node", metavar="NODE")
    fetch.add_argument("sha256", metavar="SHA256", help="EvidenceStored events name it")
    fetch.add_argument("--timeout", type=float, default=120.0, metavar="S", help="wait so long (default 120)")


class Opener:
    """Where a person's command line says that the store and the broker are."""

    def __init__(
        self,
        reader: Callable[[argparse.Namespace], Reader],
        config: Callable[[argparse.Namespace], CoordinatorConfig | None],
    ) -> None:
        self.reader = reader
        self.config = config

    def places(self, parsed: argparse.Namespace) -> tuple[EvidenceTable, Path]:
        """How evidence is kept, and the data folder."""
        config = self.config(parsed)
        if config is not None:
            return config.evidence, config.coordinator.data_dir
        return EvidenceTable(), parsed.data_dir


def _ls(parsed: argparse.Namespace, open_: Opener) -> int:
    now_ms = _now_ms()
    since_ms = arguments.since(parsed.since, now_ms) if parsed.since else 0
    wanted = EvidenceFilter(parsed.node, parsed.camera, parsed.event, "", since_ms)
    found = open_.reader(parsed).evidence(wanted, max(1, min(100_000, parsed.limit)))
    print(json.dumps([asdict(row) for row in found], indent=2) if parsed.json else shown(found, now_ms))  # noqa: T201
    return 0


def shown(found: list[EvidenceRow], now_ms: int) -> str:
    """As a table."""
    return table(
        ("NODE", "CAMERA", "FROM", "LASTS", "TYPE", "BYTES", "BLURRED", "CAME", "STATE", "SHA256", "EVENTS"),
        [
            (
                row.node,
                row.camera_id,
                local_time(row.from_utc_ms),
                f"{(row.to_utc_ms - row.from_utc_ms) / 1000:.1f}s",
                row.content_type,
                str(row.bytes),
                "yes" if row.blurred else "no",
                f"{age(row.received_utc_ms, now_ms)} ago",
                row.state,
                row.sha256,
                " ".join(row.events),
            )
            for row in found
        ],
    )


def _get(parsed: argparse.Namespace, open_: Opener) -> int:
    row = _only(open_.reader(parsed), parsed.sha256)
    settings, data_dir = open_.places(parsed)
    spool = Spool(data_dir / SPOOL_NAME)
    out: Path = parsed.out
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if row.state == SPOOLED and spool.path(row.node, row.sha256).exists():
                parts: Iterator[bytes] = _parts(spool.path(row.node, row.sha256))
            else:
                parts = open_backend(settings, data_dir).get(row.node, row.sha256)
            sha256 = _written(file, parts)
        if sha256 != row.sha256:
            raise PermanentError(f"what is stored as {row.sha256} has the hash {sha256}", hint="fetch it again")
        temporary.replace(out)
    except OSError as error:
        raise PermanentError(f"cannot write {out}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    print(f"{out}: {row.bytes} bytes, {row.content_type}, hash verified")  # noqa: T201
    return 0


def _only(reader: Reader, digits: str) -> EvidenceRow:
    """The one file whose hash begins so; the same file of two nodes is the same."""
    if not digits or set(digits) - set("0123456789abcdef"):
        raise UsageError(f"{digits}: no hexadecimal digits of a SHA-256")
    found = reader.evidence(EvidenceFilter(sha256=digits), 100)
    if len({row.sha256 for row in found}) > 1:
        raise UsageError(f"{digits}: several files begin so; give more digits")
    if not found:
        raise PermanentError(f"there is no {digits} here", hint="edgectl evidence ls; or fetch it from its node")
    return found[-1]


def _written(file: IO[bytes], parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        file.write(part)
    return digest.hexdigest()


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            yield part


def _fetch(parsed: argparse.Namespace, open_: Opener) -> int:
    config = open_.config(parsed)
    if config is None:
        raise UsageError("fetch needs the broker's address: give --config FILE or set EDGECTL_CONFIG")
    if not is_digest(parsed.sha256):
        raise UsageError(f"{parsed.sha256}: not the 64 hexadecimal digits of a SHA-256")
    reader = open_.reader(parsed)
    until_s = time.monotonic() + parsed.timeout
    command = Command("uploadEvidence", {"sha256": parsed.sha256})
    space, answer_s = TopicSpace(config.topic_root), min(30.0, parsed.timeout)
    result = asyncio.run(call(broker_of(config, parsed.node), space, parsed.node, command, timeout_s=answer_s))
    if result.state is not CommandState.SUCCEEDED:
        said = result.error.message if result.error else result.state.value
        raise PermanentError(f"{parsed.node} does not send it: {said}")
    wanted = EvidenceFilter(node=parsed.node, sha256=parsed.sha256)
    while not (found := reader.evidence(wanted, 1)):
        if time.monotonic() > until_s:
            raise TemporaryError(
                f"{parsed.node} was asked, and the file is not here after {parsed.timeout:g} s",
                hint="it goes on by itself: edgectl evidence ls",
            )
        time.sleep(LOOK_EVERY_S)
    print(f"{found[0].sha256}: {found[0].bytes} bytes, {found[0].content_type}, {found[0].state}")  # noqa: T201
    return 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
