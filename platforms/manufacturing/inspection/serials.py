"""Serial numbers: is this one right, and was it here before?"""

import re
from collections import OrderedDict
from enum import StrEnum

from platforms.manufacturing.inspection.settings import CheckDigit, SerialSettings

SERIAL_CHARS_MAX = 200


class SerialProblem(StrEnum):
    WRONG = "wrong_serial"  # not of the pattern, or its check digit is wrong
    DUPLICATE = "duplicate_serial"
    MISSING = "missing_serial"


class Serials:
    """Remembers the newest `memory` serials."""

    def __init__(self, settings: SerialSettings) -> None:
        self._settings = settings
        self._pattern = re.compile(settings.pattern) if settings.pattern else None
        self._seen: OrderedDict[str, int] = OrderedDict()

    def check(self, serial: str, part: int) -> tuple[SerialProblem, str] | None:
        """What is wrong with the serial of a part, in words; remembers it. A wrong one is not remembered."""
        if not serial:
            return (SerialProblem.MISSING, "the part has no serial number") if self._settings.required else None
        if self._pattern is not None and not self._pattern.fullmatch(serial):
            return SerialProblem.WRONG, f"{serial!r} is not like {self._settings.pattern}"
        if not _CHECKS[self._settings.check](serial):
            return SerialProblem.WRONG, f"{serial!r}: its check digit is wrong ({self._settings.check.value})"
        before = self._seen.get(serial)
        self._seen[serial] = part
        self._seen.move_to_end(serial)
        while len(self._seen) > self._settings.memory:
            self._seen.popitem(last=False)
        return None if before is None else (SerialProblem.DUPLICATE, f"{serial!r} was part {before} already")


def cleaned(text: str) -> str:
    """As it is kept: without blanks around it and control characters, no longer than SERIAL_CHARS_MAX."""
    return "".join(sign for sign in text if sign.isprintable()).strip()[:SERIAL_CHARS_MAX]


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1 over the digits."""
    digits = [int(sign) for sign in text if sign.isascii() and sign.isdigit()]
    doubled = [digit if i % 2 == 0 else sum(divmod(2 * digit, 10)) for i, digit in enumerate(reversed(digits))]
    return len(digits) > 1 and sum(doubled) % 10 == 0


def gs1(text: str) -> bool:
    """Weights 1 and 3 from the right, over the digits."""
    digits = [int(sign) for sign in text if sign.isascii() and sign.isdigit()]
    return len(digits) > 1 and sum(d * (3 if i % 2 else 1) for i, d in enumerate(reversed(digits))) % 10 == 0


_CHECKS = {CheckDigit.NONE: lambda text: True, CheckDigit.LUHN: luhn, CheckDigit.GS1: gs1}
