"""Platform state for the functions that run at the coordinator: `StateView` over the store."""

from typing import Any

from coordinator.store import state
from coordinator.store.sql import SqlStore
from runtime.machine_time import machine_time
from schemas.fields import Owner
from schemas.state import VALUE_BYTES_MAX, Collections, Entry


class CoordinatorState:
    """What holds of everybody's writes, and the coordinator's own writes; see `StateView`."""

    def __init__(self, store: SqlStore, collections: Collections) -> None:
        """From now on these collections are the declared ones. Raises StorageError."""
        self._store = store
        self._collections = collections
        store.run_now(lambda db: state.declare(db, collections))

    async def put(self, collection: str, key: str, value: Any) -> None:
        owner = Owner.COORDINATOR
        _, text = self._collections.checked(collection, key, value, owner, bytes_max=VALUE_BYTES_MAX)
        await self._write(collection, key, text)

    async def delete(self, collection: str, key: str) -> bool:
        self._collections.writable(collection, key, Owner.COORDINATOR)
        return await self._write(collection, key, None)

    async def get(self, collection: str, key: str) -> Entry | None:
        rule = self._collections.find(collection).rule
        return await self._store.read(lambda db: state.entry(db, collection, key, rule, machine_time()))

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        return [entry.key for entry in await self.entries(collection, prefix)]

    async def entries(self, collection: str, prefix: str = "") -> list[Entry]:
        rule = self._collections.find(collection).rule
        return await self._store.read(lambda db: state.entries(db, collection, prefix, rule, machine_time()))

    async def forget_node(self, node: str) -> int:
        """A node is no more: nothing of what it wrote stays. Counts what went."""
        return await self._store.run(lambda db: state.forget_node(db, node))

    async def _write(self, collection: str, key: str, text: str | None) -> bool:
        rows_max = self._store.state_rows_max
        return await self._store.run(lambda db: state.write(db, collection, key, text, machine_time(), rows_max))
