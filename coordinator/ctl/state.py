"""`edgectl state …`: platform state, as nodes and the coordinator wrote it, with its age and who says so."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from coordinator.ctl.arguments import UsageError
from coordinator.ctl.tables import age, local_time, pairs, printable, table
from coordinator.store.reader import PAGE_MAX, Reader
from coordinator.store.state_views import KeyView, Wanted, WriterView
from runtime.errors import PermanentError
from schemas.state import descend, possible_keys, split_path

FOLLOW_EVERY_S = 0.3
LIMIT = 1000
VALUE_CHARS = 60  # shown of one in a table

Open = Callable[[argparse.Namespace], Reader]


def add_commands(parser: argparse.ArgumentParser, open_: Open) -> None:
    """`get`, `ls`, `watch` and `collections`. `open_` finds the store."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, text: str, run: Callable[[argparse.Namespace, Open], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="JSON instead of a table")
        command.set_defaults(run=lambda parsed: run(parsed, open_))
        return command

    get = add("get", "what holds under a key, or in a field of it: of keys with dots the longest that is there", _get)
    get.add_argument("path", metavar="PLATFORM.COLLECTION.KEY[.FIELD...]")
    get.add_argument("--all-nodes", action="store_true", help="and what each node has written")
    get.add_argument("--node", default="", help="what this node has written")
    ls = add("ls", "the keys with what holds", _ls)
    ls.add_argument("--limit", type=int, default=LIMIT, help=f"the first so many (default {LIMIT})")
    ls.add_argument("--conflicts", action="store_true", help="only those of which writers say different things")
    watch = add("watch", "writes as they come, until Ctrl-C; with --json one object a line", _watch)
    for command in (ls, watch):
        command.add_argument("path", nargs="?", default="", metavar="PLATFORM[.COLLECTION]")
        command.add_argument("--node", default="", help="what this node has written")
    add("collections", "what is declared here, how much is kept of it, and what gave way", _collections)


def _get(parsed: argparse.Namespace, open_: Open) -> int:
    try:
        place, words = split_path(parsed.path)
        if not words:
            raise ValueError(f"{parsed.path!r} names no key; edgectl state ls {parsed.path} lists them")
    except ValueError as error:
        raise UsageError(str(error)) from error
    view, fields = _find(open_(parsed), place, words, parsed.node)
    if view is None:
        where = f" of {parsed.node}" if parsed.node else ""
        raise PermanentError(f"there is no state {parsed.path}{where}", hint=f"edgectl state ls {place}")
    try:
        shown = descend(view.value, fields)
    except LookupError as error:
        raise PermanentError(f"{view.path}: {error.args[0]}") from error
    document = {**asdict(view), "field": ".".join(fields), "value": shown, "age_s": _age_s(view.said_utc_ms)}
    if not parsed.all_nodes:
        del document["writers"]
    _write(_json(document) if parsed.json else _one(view, fields, shown, all_nodes=parsed.all_nodes))
    return 0


def _find(reader: Reader, place: str, words: list[str], node: str) -> tuple[KeyView | None, list[str]]:
    """The longest key under which something holds; only where there is none, one that was deleted."""
    platform, _, collection = place.partition(".")
    deleted: tuple[KeyView | None, list[str]] = None, words
    for key, fields in possible_keys(words):
        for view in reader.state(Wanted(platform, collection, key, node), 1):
            if view.written_by:
                return view, fields
            deleted = deleted if deleted[0] else (view, fields)
    return deleted


def _ls(parsed: argparse.Namespace, open_: Open) -> int:
    if not 1 <= parsed.limit <= 1_000_000:
        raise UsageError("--limit must be 1 to 1000000")
    found = open_(parsed).state(_wanted(parsed, conflicts_only=parsed.conflicts), parsed.limit)
    if parsed.json:
        _write(_json([{**asdict(view), "age_s": _age_s(view.said_utc_ms)} for view in found]))
        return 0
    now_ms = _now_ms()
    rows = [
        (view.path, _cut(view.value), ", ".join(view.written_by), age(view.said_utc_ms, now_ms), _notes(view, now_ms))
        for view in found
    ]
    _write(table(("KEY", "VALUE", "NODE", "AGE", "NOTE"), rows))
    return 0


def _watch(parsed: argparse.Namespace, open_: Open) -> int:
    reader, wanted = open_(parsed), _wanted(parsed)
    after = reader.last_state_change()
    while True:
        after, found = reader.state_changes(wanted, after, PAGE_MAX)
        for path, writer in found:
            if parsed.json:
                _write(json.dumps({"path": path, **asdict(writer)}, ensure_ascii=False))
            else:
                cells = local_time(writer.said_utc_ms), writer.node, path, _cut(writer.value)
                _write("  ".join(printable(cell) for cell in cells))
        sys.stdout.flush()
        if len(found) < PAGE_MAX:
            time.sleep(FOLLOW_EVERY_S)


def _collections(parsed: argparse.Namespace, open_: Open) -> int:
    found = open_(parsed).state_collections()
    if parsed.json:
        _write(_json([asdict(one) for one in found]))
        return 0
    rows = [
        (
            f"{one.platform}.{one.collection}",
            one.owner if one.declared else "not declared here",
            one.rule,
            str(one.rows),
            str(one.shed),
        )
        for one in found
    ]
    _write(table(("COLLECTION", "OWNER", "RULE", "ROWS", "GAVE WAY"), rows))
    return 0


# ---- as text -----------------------------------------------------------------------------------------


def _one(view: KeyView, fields: list[str], value: Any, *, all_nodes: bool) -> str:
    now_ms = _now_ms()
    rows = [
        ("key", view.path),
        *([("field", ".".join(fields))] if fields else []),
        ("value", _text(value) if view.written_by else "deleted"),
        ("written by", ", ".join(view.written_by) or "-"),
        ("age", f"{age(view.said_utc_ms, now_ms)} ({local_time(view.said_utc_ms)})"),
        *([("note", note)] if (note := _notes(view, now_ms)) else []),
    ]
    text = pairs(rows)
    if not all_nodes:
        return text
    cells = [
        (
            one.node,
            one.node_state or "-",
            "deleted" if one.value is None else _cut(one.value),
            age(one.said_utc_ms, now_ms),
            age(one.received_utc_ms, now_ms),
            "holds" if one.node in view.written_by else "",
        )
        for one in view.writers
    ]
    return f"{text}\nrule  {view.rule}\n" + table(("NODE", "STATE", "SAYS", "AGE", "CAME", ""), cells)


def _notes(view: KeyView, now_ms: int) -> str:
    """What somebody who trusts the value has to know."""
    notes = [
        f"may be stale: {one.node} {_away(one, now_ms)}"
        for one in view.writers
        if one.is_away and one.node in view.written_by
    ]
    if view.conflict:
        notes.append("writers differ")
    if not view.checked:
        notes.append("unchecked")
    return "; ".join(notes)


def _away(writer: WriterView, now_ms: int) -> str:
    if not writer.node_since_utc_ms:
        return "never registered"
    return f"{writer.node_state} for {age(writer.node_since_utc_ms, now_ms)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 3] + "..."


def _wanted(parsed: argparse.Namespace, *, conflicts_only: bool = False) -> Wanted:
    platform, _, collection = parsed.path.partition(".")
    if "." in collection:
        raise UsageError(f"{parsed.path}: not like platform or platform.collection; a single key is for: state get")
    return Wanted(platform, collection, None, parsed.node, conflicts_only)


def _age_s(utc_ms: int) -> float:
    return max(0, _now_ms() - utc_ms) / 1000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _write(text: str) -> None:
    print(text)  # noqa: T201
