"""Names of the language as names of Python: classes in CapWords, functions in snake_case, no keyword, none twice."""

import builtins
import keyword
import re
from collections.abc import Iterable

# What a generated module itself uses. A class, or a field with a default, of such a name would hide it.
RESERVED = frozenset(
    {"Any", "ClassVar", "Protocol", "StrEnum", "TypeAlias", "dataclass", "field", "str", "int", "float", "bool"}
    | {"list", "dict", "EVENTS", "State", "EdgeFunctions", "CloudFunctions", "AnyFunctions", "Client", "self"}
)
BUILT_IN = frozenset(dir(builtins))


class Names:
    """Hands out names of one scope, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def claim(self, wanted: str) -> str:
        """`wanted`; with an underscore behind it if Python has another use for it; with a number if it is taken."""
        name = f"{wanted}_" if keyword.iskeyword(wanted) or wanted in RESERVED else wanted
        number = 2
        while name in self._taken:
            name = f"{wanted}{number}"
            number += 1
        self._taken.add(name)
        return name


def class_name(name: str) -> str:
    """`Flow_Analysis` is `FlowAnalysis`; `Warning`, which Python has already, `WarningType`."""
    made = "".join(part[0].upper() + part[1:] for part in name.split("_") if part) or "Unnamed"
    return f"{made}Type" if made in BUILT_IN | RESERVED else made


def snake_name(name: str) -> str:
    """`recognizeVIP` is `recognize_vip`, `detectOutOfShelf` is `detect_out_of_shelf`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub("_+", "_", apart).lower()


def member_name(name: str) -> str:
    """A member of an enum: `over_full` is `OVER_FULL`."""
    return snake_name(name).strip("_").upper() or "VALUE"
