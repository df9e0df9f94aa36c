"""A process that does a duty: `python -m tests.lease.holder DSN NAME LASTS_S`.

It writes a row in `results` as often as it can, under whatever lease it last had, and asks for more of the lease
after a write: after a stop it writes first, as a holder does that has not noticed. Each refusal is a line of output.
"""

import asyncio
import sys
import time

from coordinator.lease.duty import Duty
from coordinator.store.leases import LeaseLostError
from coordinator.store.place import PostgresPlace
from coordinator.store.postgres import Part, PostgresStore
from runtime.database import Database
from runtime.errors import TemporaryError

SLOW_S = 1.0  # a write that took longer was stopped in the middle: the next goes before the lease is asked for


async def main(dsn: str, name: str, lasts_s: float) -> None:
    store = PostgresStore(PostgresPlace(dsn), part=Part.LEAD)
    duty = Duty(store, "counting", name, lasts_s=lasts_s)
    ask_at_s = 0.0
    while True:
        token, began_s = duty.token, time.monotonic()

        def job(db: Database, token: int = token) -> None:
            db.execute(
                "INSERT INTO results (node, function, command_id, state, received_utc_ms, document)"
                " VALUES (?, 'count', ?, '', 0, '{}')",
                (name, str(token)),
            )

        if token:
            try:
                await duty.write(job)
            except LeaseLostError:
                print("refused", flush=True)
            except TemporaryError as error:
                print(f"failed {error}", flush=True)
        now_s = time.monotonic()
        if now_s >= ask_at_s and now_s - began_s < SLOW_S:
            await duty.ask()
            ask_at_s = now_s + lasts_s / 3
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
