"""Whether there is room for a release, and what leaves the cache for it. Blocks."""

import logging
from collections.abc import Callable, Collection, Sequence

from agent.models.cache import Cache
from agent.models.fetching import Item
from agent.models.garbage import HeldRelease, bytes_of, to_drop
from agent.models.needs import Needed
from runtime.sqlite import DiskFullError

log = logging.getLogger(__name__)


class Room:
    """Of one cache. `keep` gives the digests that never leave it."""

    def __init__(
        self, cache: Cache, keep: Callable[[], Collection[str]], *, bytes_max: int, free_bytes_min: int
    ) -> None:
        self._cache = cache
        self._keep = keep
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min

    def lacking(self, wanted: Needed) -> list[Item]:
        """What is not here yet, small files first. A file that is here and not sound is thrown away."""
        lacking = []
        for sha256, size in sorted(wanted.sizes.items(), key=lambda pair: pair[1]):
            if self._cache.has(sha256, size) and self._cache.is_sound(sha256):
                continue
            self._cache.path(sha256).unlink(missing_ok=True)
            lacking.append(Item(sha256, size))
        return lacking

    def make(self, wanted: Needed, lacking: Sequence[Item]) -> None:
        """Raises DiskFullError where there cannot be enough; then nothing of use has gone."""
        held, bytes_wanted = self._cache.releases(), sum(wanted.sizes.values())
        dropped = to_drop(held, set(self._keep()), bytes_max=self._bytes_max, more_bytes=bytes_wanted)
        left = [one for one in held if one not in dropped]
        if bytes_of([*left, HeldRelease("", "", wanted.sizes)]) > self._bytes_max:
            raise DiskFullError(
                f"no room: {bytes_wanted} bytes more than models.bytes_max, {self._bytes_max}, allows",
                hint="raise models.bytes_max",
            )
        for one in dropped:
            log.info("models: %s leaves the cache, for room", one.reference)
            self._cache.drop(one.digest)
        self._cache.sweep([*(item.key for item in lacking), *wanted.sizes])
        self.check(sum(item.size - self._cache.part_bytes(item.key) for item in lacking))

    def check(self, more: int = 0) -> None:
        """Raises DiskFullError where the disk has no room for so many bytes."""
        free = self._cache.free_bytes()
        if free - more < self._free_bytes_min:
            raise DiskFullError(
                f"no room: {more} bytes are wanted, {free} are free and {self._free_bytes_min} stay free",
                hint="free space, or lower models.free_bytes_min",
            )
