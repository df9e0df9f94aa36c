"""Where models come from: what a source promises, and how it fails."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from runtime.errors import PermanentError, TemporaryError

Sink = Callable[[bytes], None]
"""Takes the next bytes, in a thread. It raises to have no more."""


class CutError(TemporaryError):
    """It broke off or did not begin: ask again later, of this source or another. `at_least_s`: not before."""

    def __init__(self, what: str, *, at_least_s: float = 0.0) -> None:
        super().__init__(what)
        self.at_least_s = at_least_s


class MissingError(PermanentError):
    """The source does not have it."""


class WrongError(PermanentError):
    """The source has something else by this name."""


class Source(Protocol):
    """Raises CutError, MissingError or WrongError; what the sink raises passes through."""

    @property
    def name(self) -> str: ...

    async def document(self, name: str, version: str, digest: str, sink: Sink) -> None:
        """The document of a release, all of it."""

    async def signature(self, name: str, version: str) -> str:
        """`KEY BASE64`; MissingError where the release is not signed."""

    async def blob(self, sha256: str, size: int, offset: int, sink: Sink) -> None:
        """The bytes of a file from `offset` to its end."""


async def wait_or_stop(seconds: float, wake: asyncio.Event) -> None:
    """Until the time is over or somebody wakes us."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await wake.wait()
    except TimeoutError:
        return
