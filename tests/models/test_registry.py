"""The functions of a coordinator that change the catalogue, on a real store and folder."""

import asyncio
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.models.blobs import FOLDER_NAME, Blobs
from coordinator.models.folder import FolderRelease, store_files
from coordinator.models.registry import Registry
from coordinator.models.release import Role
from coordinator.store.sqlite import SqliteStore
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Call
from tests.models.making import found


class World:
    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder)
        self.blobs = Blobs(folder / FOLDER_NAME)
        self.registry = Registry(self.store, self.blobs)
        self.made: FolderRelease = found(folder / "bundle")

    def call(self, function: str, **arguments: Any) -> Any:
        served = {one.name: one for one in self.registry.functions()}[function]
        return asyncio.run(_run(served.run(Call(), served.parse(arguments))))


async def _run(answer: Any) -> Any:
    return await answer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def test_a_model_is_added_promoted_and_retired(world: World) -> None:
    store_files(world.made, world.blobs)
    added = world.call("addModel", digest=world.made.digest, channel="canary", source="anna")
    assert (added["name"], added["version"], added["changed"], added["channel"]) == (
        "finder",
        "1.0.0",
        True,
        "canary",
    )
    assert not world.call("addModel", digest=world.made.digest)["changed"]
    assert world.call("promoteModel", name="finder", version="1", channel="stable")["changed"]
    assert world.call("retireModel", name="finder", version="1.0", withdraw=True)["changed"]
    assert asyncio.run(world.registry.document("finder", "1.0.0")) == (
        world.made.digest,
        world.made.document.decode(),
    )
    assert asyncio.run(world.registry.document("finder", "2.0.0")) is None


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        ("addModel", {"digest": "0" * 64}, "there is no file"),
        ("addModel", {"digest": "../../etc/passwd"}, "digest"),
        ("addModel", {"digest": "0" * 64, "signature": "x"}, "signature"),
        ("addModel", {}, "digest: is missing"),
        ("promoteModel", {"name": "finder", "version": "1", "channel": "stable"}, "there is no model finder@1.0.0"),
        ("promoteModel", {"name": "finder", "version": "x", "channel": "stable"}, "is no version"),
        ("promoteModel", {"name": "a/b", "version": "1", "channel": "stable"}, "name"),
        ("retireModel", {"name": "finder", "version": "1"}, "there is no model"),
    ],
)
def test_a_wrong_call_is_rejected_with_the_reason(
    world: World, function: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(CallRejectedError, match=said):
        world.call(function, **arguments)


@pytest.mark.parametrize("damage", ["gone", "other bytes", "shorter"])
def test_a_model_whose_files_are_not_sound_is_not_added(world: World, damage: str) -> None:
    store_files(world.made, world.blobs)
    (model,) = (file for file in world.made.release.files if file.role is Role.MODEL)
    path = world.blobs.path(model.sha256)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(model.bytes if damage == "other bytes" else 10))
    with pytest.raises(CallRejectedError, match=r"m\.tflite is not in the store as it should be"):
        world.call("addModel", digest=world.made.digest)
    assert asyncio.run(world.registry.document("finder", "1.0.0")) is None


@pytest.mark.parametrize("document", [b"{}", b"no JSON", b'{"name": "x"}', b"[" * 100_000])
def test_a_document_that_is_none_is_rejected(world: World, document: bytes) -> None:
    digest = hashlib.sha256(document).hexdigest()
    world.blobs.put(digest, io.BytesIO(document), len(document))
    with pytest.raises(CallRejectedError, match="the document of a model"):
        world.call("addModel", digest=digest)


def test_during_a_sweep_it_is_asked_to_come_again(world: World) -> None:
    store_files(world.made, world.blobs)
    with world.blobs.sweeping(), pytest.raises(CallFailedError, match="try again"):
        world.call("addModel", digest=world.made.digest)
