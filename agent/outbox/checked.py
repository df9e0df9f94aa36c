"""Facts against the schemas, before they are stored.

A fact that its schema does not allow is a defect of ours. It is not lost: in its place, in its lane, goes an event
`InvalidEvent` that says which it was, the field at fault, why, and what it said as JSON text. A type that no schema
declares passes and is counted.
"""

import json
import logging
from collections.abc import Sequence

from agent.outbox.rows import Draft
from schemas.language.catalogue import Catalogue
from schemas.language.check import InvalidError

log = logging.getLogger(__name__)

INVALID = "InvalidEvent"
DATA_CHARS_MAX = 20_000  # of the text that is kept: in the worst case six bytes each, and a row has 128 KiB
TEXT_CHARS_MAX = 500
SAID_MAX = 200  # kinds of mistakes in the log


class Checked:
    """One agent's. `invalid_total` and `unchecked_total` count facts since its start."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._check = catalogue.check
        self._said: set[tuple[str, str]] = set()  # types and fields that are in the log already
        self.invalid_total = 0
        self.unchecked_total = 0

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Draft]:
        """As many facts, in the same order."""
        invalid: dict[int, Draft] = {}
        for i, draft in enumerate(drafts):
            try:
                if not self._check(draft.type, draft.data):
                    self.unchecked_total += 1
            except InvalidError as error:
                invalid[i] = self._instead(draft, error)
        return [invalid.get(i, draft) for i, draft in enumerate(drafts)] if invalid else drafts

    def _instead(self, draft: Draft, error: InvalidError) -> Draft:
        self.invalid_total += 1
        what = draft.type, error.field
        if what not in self._said and len(self._said) < SAID_MAX:
            self._said.add(what)
            log.error("event %s of %s is not as declared, sent as %s: %s", draft.type, draft.subject, INVALID, error)
        data = {
            "type": draft.type,
            "field": error.field[:TEXT_CHARS_MAX],
            "reason": str(error)[:TEXT_CHARS_MAX],
            "data": _text(draft.data)[:DATA_CHARS_MAX],
        }
        return Draft(draft.lane, INVALID, draft.subject, draft.time_utc_ms, data)


def _text(data: object) -> str:
    """As JSON text, whatever is in it."""
    try:
        return json.dumps(data, default=repr, skipkeys=True)
    except (ValueError, RecursionError):
        return repr(data)[:DATA_CHARS_MAX]
