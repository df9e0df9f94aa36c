"""Waiting out a store that refuses: for drivers that have nobody to tell, and lose nothing by waiting."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.backoff import Backoff
from runtime.errors import TemporaryError

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY = Backoff(first_s=0.2, max_s=5.0)


async def patiently(who: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Asks until it is answered: a TemporaryError has changed nothing. `who` waits, for the log."""
    attempt = 0
    while True:
        try:
            return await ask()
        except TemporaryError as error:
            log.log(logging.DEBUG if attempt else logging.ERROR, "%s for the store: %s", who, error)
            await asyncio.sleep(RETRY.delay_s(attempt, 0.5))
            attempt += 1
