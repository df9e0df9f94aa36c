"""A process that does a duty: `python -m tests.lease.holder DSN NAME LASTS_S`.

It writes a row in `results` as often as it can, under whatever lease it last had: it never looks at its clock, so
that after a stop it goes on where it was, as a holder does that has not noticed. Each refusal is a line of output.
"""

import asyncio
import sys

from coordinator.lease.duty import Duty
from coordinator.store.leases import LeaseLostError
from coordinator.store.place import PostgresPlace
from coordinator.store.postgres import Part, PostgresStore
from runtime.database import Database
from runtime.errors import TemporaryError


async def main(dsn: str, name: str, lasts_s: float) -> None:
    store = PostgresStore(PostgresPlace(dsn), part=Part.LEAD)
    duty = Duty(store, "counting", name, lasts_s=lasts_s)
    asking = asyncio.create_task(duty.run(), name="duty")
    while not asking.done():
        token = duty.token

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
        await asyncio.sleep(0.01)
    await asking


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
