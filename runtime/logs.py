"""Logging of both processes: set up once, one line per record, no credential in any of them.

Under systemd a line starts with `<N>`, the priority that journald understands, and has no time of its own.
A traceback follows its record as marked lines, or as a field of the JSON object.
"""

import enum
import json
import logging
import os
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from types import TracebackType
from typing import TextIO
from urllib.parse import quote

HIDDEN = "***"

# Everything between `scheme://` and the last @ of the word: a password may hold a stray @ or /.
_USER_INFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s\"'<>]*@")
_QUERY_SECRET = re.compile(
    r"([?&](?:password|passwd|pass|pwd|token|access_token|api_?key|key|secret|auth|signature|sig)=)[^&\s\"'<>]*",
    re.IGNORECASE,
)
# Shorter secrets are not searched for: hiding every "ab" would show which text is the secret.
_SECRET_CHARS_MIN = 4


class Redactor:
    """Hides credentials: those in any URL, and the known secrets that were registered."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: list[str] = []
        for secret in secrets:
            self.register(secret)

    def register(self, secret: str) -> None:
        """Hide `secret` from now on, also in its URL-quoted form. Fewer than 4 characters are ignored."""
        forms = {secret, quote(secret, safe="")}
        self._known = sorted({*self._known, *(form for form in forms if len(form) >= _SECRET_CHARS_MIN)}, key=len)[
            ::-1
        ]

    def redact(self, text: str) -> str:
        text = redact_urls(text)
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return text


def redact_urls(text: str) -> str:
    """Hide user names, passwords and secret query values in every URL of `text`."""
    if "://" in text:
        text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
    return _QUERY_SECRET.sub(rf"\1{HIDDEN}", text)


class LogForm(enum.Enum):
    """How a record is written. AUTO is JOURNAL when our stream is journald's, else PLAIN."""

    AUTO = "auto"
    PLAIN = "plain"
    JOURNAL = "journal"
    JSON = "json"


class _Formatter(logging.Formatter):
    """Redacts message and traceback first, so that no escaping can hide a secret from the search."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def message(self, record: logging.LogRecord) -> str:
        # A line break in a message could forge a record.
        return self._redactor.redact(record.getMessage()).replace("\n", "\\n").replace("\r", "\\r")

    def trace(self, record: logging.LogRecord) -> str:
        return self._redactor.redact(self.formatException(record.exc_info)) if record.exc_info else ""


class PlainFormatter(_Formatter):
    """`2026-01-31T12:00:00.123Z WARNING agent.link.sender: text`, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_utc(record)} {record.levelname} {record.name}: {self.message(record)}"
        return "\n".join([head, *(f"    | {line}" for line in self.trace(record).splitlines())])


class JournalFormatter(_Formatter):
    """`<4>agent.link.sender: text`; sd-daemon(3) has the priorities."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_priority(record.levelno)}>"
        lines = [
            f"{record.name}: {self.message(record)}",
            *(f"    | {line}" for line in self.trace(record).splitlines()),
        ]
        return "\n".join(priority + line for line in lines)


class JsonFormatter(_Formatter):
    """One JSON object per line: time, level, logger, message and, after an exception, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
        }
        if trace := self.trace(record):
            said["traceback"] = trace
        return json.dumps(said, ensure_ascii=False)


_FORMATTERS: dict[LogForm, type[_Formatter]] = {
    LogForm.PLAIN: PlainFormatter,
    LogForm.JOURNAL: JournalFormatter,
    LogForm.JSON: JsonFormatter,
}


def setup_logging(
    level: str = "INFO",
    *,
    form: LogForm = LogForm.AUTO,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> Redactor:
    """Send every record of the process to `stream` (standard error); replaces what was set up before.

    Uncaught exceptions and warnings go the same way. Returns the redactor, for secrets that become known later.
    """
    stream = stream or sys.stderr
    if form is LogForm.AUTO:
        form = LogForm.JOURNAL if _is_journal(stream) else LogForm.PLAIN
    redactor = Redactor(secrets)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_FORMATTERS[form](redactor))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    return redactor


class LogOnce:
    """Says once that something is lost and once that it is back; repetitions in between are for debugging.

    Bounded: of more than `keys_max` things lost at once, the oldest is forgotten.
    """

    def __init__(self, logger: logging.Logger, *, keys_max: int = 1_024) -> None:
        self._log = logger
        self._keys_max = keys_max
        self._lost: OrderedDict[str, None] = OrderedDict()

    def lost(self, key: str, message: str, *args: object) -> None:
        """Warn if `key` was not lost already."""
        level = logging.DEBUG if key in self._lost else logging.WARNING
        self._lost[key] = None
        if len(self._lost) > self._keys_max:
            self._lost.popitem(last=False)
        self._log.log(level, message, *args)

    def back(self, key: str, message: str, *args: object) -> None:
        """Say so if `key` was lost, else nothing."""
        if key in self._lost:
            del self._lost[key]
            self._log.info(message, *args)


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _priority(level: int) -> int:
    for at_least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= at_least:
            return priority
    return 7


def _is_journal(stream: TextIO) -> bool:
    """JOURNAL_STREAM names device and inode of journald's socket; it is inherited, so compare (systemd.exec(5))."""
    named = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no descriptor behind it, or closed
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("uncaught").critical("the process ends", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread else "?"
        trace = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger("uncaught").critical("thread %s ended", name, exc_info=trace)
