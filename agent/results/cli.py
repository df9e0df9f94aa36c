"""`edge-agent results …`: what was found here, for people and programs, also while the agent runs."""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.config import load_config
from agent.results import query
from agent.results.store import figures, opened
from runtime.errors import ConfigError
from schemas.codec import format_utc, parse_utc
from schemas.shape import ShapeError
from schemas.sync import DataFilter, parse_filter

LIMIT = 100
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_commands(results: argparse.ArgumentParser) -> None:
    """The subcommands; each takes `--config`."""
    commands = results.add_subparsers(required=True, metavar="WHAT")
    asked = commands.add_parser("query", help="what was found, newest last", description=_query.__doc__)
    asked.set_defaults(run=_query)
    asked.add_argument("--camera", action="append", default=[], help="its id; may be given again")
    asked.add_argument("--pipeline", action="append", default=[], help="its name; may be given again")
    asked.add_argument("--type", action="append", default=[], help="FrameResult, StreamSample or an event's type")
    asked.add_argument("--class", action="append", default=[], dest="classes", help="of an object in it")
    asked.add_argument("--confidence", type=float, default=0.0, metavar="LEAST", help="0 to 1, of an object in it")
    asked.add_argument("--since", metavar="WHEN", help="2026-11-25T10:00:00Z, or how long ago: 90s, 15m, 2h, 3d")
    asked.add_argument("--until", metavar="WHEN")
    asked.add_argument("--limit", type=int, default=LIMIT, help=f"the newest so many; {LIMIT} if not given")
    asked.add_argument("--aggregate", metavar="WINDOW", help="sum frame results up in windows of 10s, 5m, 1h, 1d")
    asked.add_argument("--json", action="store_true", help="a line of JSON each")
    stats = commands.add_parser("stats", help="how much is kept, and what was dropped and why")
    stats.set_defaults(run=_stats)
    for command in (asked, stats):
        command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")


def _query(arguments: argparse.Namespace) -> int:
    """Shows results that are kept at the node. Exit status 0 also where there are none."""
    data_filter = _filter(arguments, time.time_ns() // 1_000_000)
    if arguments.limit < 1:
        raise ConfigError(f"--limit: {arguments.limit} must be at least 1")
    with opened(_path(arguments)) as db:
        if arguments.aggregate:
            window_s = _seconds("--aggregate", arguments.aggregate)
            found = query.in_windows(db, data_filter, window_s)[-arguments.limit :]
            rows = [{"from_utc_ms": aggregate.from_utc_ms, **aggregate.described()} for aggregate in found]
            return _print(map(json.dumps, rows) if arguments.json else map(_window_line, rows))
        results = query.newest(db, data_filter, arguments.limit)
    shown = [query.shown(result) for result in results]
    return _print((json.dumps(row, ensure_ascii=False) for row in shown) if arguments.json else map(_line, shown))


def _stats(arguments: argparse.Namespace) -> int:
    path = _path(arguments)
    with opened(path) as db:
        return _print([json.dumps({"file": str(path), "bytes": path.stat().st_size, **figures(db)})])


def _path(arguments: argparse.Namespace) -> Path:
    return load_config(arguments.config).node.data_dir / "results.db"


def _filter(arguments: argparse.Namespace, now_utc_ms: int) -> DataFilter:
    raw: dict[str, Any] = {
        "types": arguments.type,
        "cameras": arguments.camera,
        "pipelines": arguments.pipeline,
        "classes": arguments.classes,
        "confidence_min": arguments.confidence,
    }
    for name, text in (("since", arguments.since), ("until", arguments.until)):
        if text:
            raw[f"{name}_utc_ms"] = _moment(f"--{name}", text, now_utc_ms)
    try:
        return parse_filter(raw)
    except ShapeError as error:
        raise ConfigError(str(error)) from error


def _moment(option: str, text: str, now_utc_ms: int) -> int:
    if re.fullmatch(r"[0-9.]+[smhd]", text):
        return now_utc_ms - round(_seconds(option, text) * 1000)
    try:
        return parse_utc(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}", hint="give 2026-11-25T10:00:00Z, or 90s, 15m, 2h, 3d ago") from error


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text[:-1]) * _UNITS[text[-1:]]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0.001 <= seconds <= 10 * 365 * 86400:
        raise ConfigError(f"{option}: {text!r} is no length of time", hint="give it like 90s, 15m, 2h, 3d")
    return seconds


def _line(row: dict[str, Any]) -> str:
    data = json.dumps(row["data"], ensure_ascii=False, separators=(",", ":"))
    return f"{format_utc(row['time_utc_ms'])}  {row['pipeline']:<16}  {row['type']:<16}  {row['subject']:<12}  {data}"


def _window_line(row: dict[str, Any]) -> str:
    classes = "  ".join(
        f"{name} {each['detections']} (mean {each['count']['mean']:g}, most {each['count']['max']})"
        for name, each in row["classes"].items()
    )
    begins = format_utc(row["from_utc_ms"])
    return f"{begins}  {row['pipeline']:<16}  {row['window_s']:g} s  {row['frames']} frames  {classes}"


def _print(lines: Iterable[str]) -> int:
    try:
        for line in lines:
            print(line)  # noqa: T201
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # as `| head` asks: quietly
    return 0
