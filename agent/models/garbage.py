"""Which releases leave the cache when there is to be room. Pure.

What is wanted, runs, or ran before stays, whatever it takes. Of the others the one used longest ago goes first.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HeldRelease:
    """A release of the cache: its digest, what of it is here, and when it was last used (UTC seconds)."""

    digest: str
    reference: str  # NAME@VERSION
    sizes: Mapping[str, int] = field(default_factory=dict)  # bytes by SHA-256
    used_s: float = 0.0


def bytes_of(held: Iterable[HeldRelease]) -> int:
    """What they take together: a file that several have counts once."""
    return sum({sha256: size for one in held for sha256, size in one.sizes.items()}.values())


def to_drop(
    held: Collection[HeldRelease], keep: Collection[str], *, bytes_max: int, more_bytes: int = 0
) -> list[HeldRelease]:
    """Those that have to go so that all of it, with `more_bytes` to come, is at most `bytes_max`.

    As few as that takes, the longest unused first; fewer are not enough, or there are no more that may go.
    """
    total = bytes_of(held) + more_bytes
    shares = Counter(sha256 for one in held for sha256 in one.sizes)
    dropped = []
    for one in sorted(held, key=lambda one: (one.used_s, one.digest)):
        if total <= bytes_max:
            break
        if one.digest in keep:
            continue
        dropped.append(one)
        for sha256, size in one.sizes.items():
            shares[sha256] -= 1
            total -= size if not shares[sha256] else 0
    return dropped
