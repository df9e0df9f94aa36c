"""How far a one-off sending of kept results has come, and what is remembered of earlier ones. Pure.

A sending has an id; what was sent under it is not sent again under it. Numbers of results hold within the file they
are of, which its epoch names.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.shape import ShapeError
from schemas.sync import DataFilter, parse_filter, plain

REMEMBERED_MAX = 50  # ids of sendings that have ended


@dataclass(slots=True)
class Progress:
    """One sending. `ranges` of outbox rows wait for the coordinator's answer: (lane, first, last)."""

    sync_id: str
    data_filter: DataFilter
    epoch: str
    cursor: int  # results up to this number are dealt with
    upto: int  # the last one that is part of it
    started_run_s: float = 0.0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0
    ranges: list[tuple[str, int, int]] = field(default_factory=list)

    def packed(self) -> str:
        """As text, to be remembered."""
        return json.dumps({**asdict(self), "data_filter": plain(self.data_filter)})

    def result(self, run_s: float, outcome: str) -> dict[str, Any]:
        """The data of `CloudSyncCompleted`."""
        duration_s = round(max(0.0, run_s - self.started_run_s), 3)
        return {
            "sync_id": self.sync_id,
            "outcome": outcome,
            "rows": self.rows,
            "bytes": self.bytes,
            "skipped": self.skipped,
            "duration_s": duration_s,
            "bytes_synced": self.bytes,  # the same two under the names that platforms declare
            "duration_ms": round(duration_s * 1000),
        }


def unpacked(text: str) -> Progress | None:
    """A remembered sending; None where there is none, or what was remembered cannot be read."""
    try:
        fields = json.loads(text)
        fields["data_filter"] = parse_filter(fields["data_filter"])
        fields["ranges"] = [(str(lane), int(first), int(last)) for lane, first, last in fields["ranges"]]
        return Progress(**fields)
    except (ValueError, TypeError, KeyError, ShapeError):
        return None


def filter_id(data_filter: DataFilter) -> str:
    """The id of a sending that was given none: the same for the same filter."""
    return "sync-" + _digest(data_filter)


def _digest(data_filter: DataFilter) -> str:
    return hashlib.sha256(json.dumps(plain(data_filter), sort_keys=True).encode()).hexdigest()[:16]


class Ended:
    """Where sendings have ended, by id, the last REMEMBERED_MAX of them."""

    def __init__(self, text: str = "") -> None:
        try:
            raw = json.loads(text) if text else {}
        except ValueError:
            raw = {}
        self._by_id: dict[str, tuple[str, int, str]] = {
            key: (str(item[0]), int(item[1]), str(item[2]))
            for key, item in (raw.items() if isinstance(raw, Mapping) else ())
            if isinstance(item, list) and len(item) == 3 and isinstance(item[1], int)
        }

    def cursor(self, sync_id: str, epoch: str) -> int:
        """Where to go on under this id: results up to this number have been dealt with."""
        known = self._by_id.get(sync_id)
        return known[1] if known is not None and known[0] == epoch else 0

    def is_another(self, sync_id: str, data_filter: DataFilter) -> bool:
        """True when this id was given to a sending with another filter."""
        known = self._by_id.get(sync_id)
        return known is not None and known[2] != _digest(data_filter)

    def add(self, progress: Progress) -> None:
        """Remembers where it ended."""
        self._by_id.pop(progress.sync_id, None)
        self._by_id[progress.sync_id] = (progress.epoch, progress.cursor, _digest(progress.data_filter))
        while len(self._by_id) > REMEMBERED_MAX:
            del self._by_id[next(iter(self._by_id))]

    def packed(self) -> str:
        """As text, to be remembered."""
        return json.dumps(self._by_id)
