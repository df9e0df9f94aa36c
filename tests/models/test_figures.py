"""What nodes measured, summed up; and files in pieces over MQTT with their limits."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from coordinator.models.blobs import Blobs
from coordinator.models.folder import store_files
from coordinator.models.reading import BlobReader, ReadBlob
from coordinator.models.settings import ModelsTable
from coordinator.store import model_figures, models
from coordinator.store.model_figures import FiguresView
from coordinator.store.reader import Reader
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Row
from runtime.calls.errors import CallFailedError, CallRejectedError
from tests.models.making import found, model_bytes

DATA = model_bytes(300_000)


def measured(digest: str, seq: int, node: str = "gw-1", **said: Any) -> Row:
    data = {"model": "finder@1.0.0", "digest": digest, "variant": "cpu", "hardware": "Raspberry Pi 5"}
    figures = {"engine": "litert", "frames": 10, "latency_ms_p50": 10.0, "latency_ms_p95": 20.0, "basis": "golden"}
    return Row(node, "s", "event", seq, "ModelMeasured", "", None, 1, 7, 1, json.dumps(data | figures | said))


def test_measurements_are_summed_up_once_by_variant_and_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_figures, "HARDWARE_MAX", 2)
    made = found(tmp_path / "bundle")

    async def scene() -> None:
        store = SqliteStore(tmp_path)
        await store.run(lambda db: models.add(db, made.release, made.document, made.digest, now_ms=1))
        rows = [
            measured(made.digest, 1, accuracy=0.9),
            measured(made.digest, 2, accuracy=0.5, latency_ms_p50=20.0, latency_ms_p95=50.0),
            measured(made.digest, 3, basis="live", frames=500),
            measured(made.digest, 4, hardware="Jetson"),
            measured(made.digest, 5, node="gw-2", hardware="NUC"),  # beyond the limit
            measured("cd" * 32, 6),  # of no model here
            measured(made.digest, 7, variant="gpu"),  # which it does not have
            measured(made.digest, 8, frames=-1),
        ]
        for _ in range(2):  # sent twice, counted once
            await store.commit(Batch(events=rows))
        store.close()

    asyncio.run(scene())
    reader = Reader(tmp_path)
    views = reader.model_figures("finder", "1.0.0")
    summary = reader.model_measured("finder", "1.0.0")
    reader.close()
    assert views == [
        FiguresView("cpu", "Jetson", "golden", 1, 10, None, None, 10.0, 20.0, 20.0, 7),
        FiguresView("cpu", "Raspberry Pi 5", "golden", 2, 20, 0.7, 0.5, 15.0, 35.0, 50.0, 7),
        FiguresView("cpu", "Raspberry Pi 5", "live", 1, 500, None, None, 10.0, 20.0, 20.0, 7),
        FiguresView("cpu", "other", "golden", 1, 10, None, None, 10.0, 20.0, 20.0, 7),
    ]
    (cpu,) = summary
    assert (cpu.nodes, cpu.latency_ms_p50, cpu.accuracy) == (2, 12.0, 0.7)


class Shelf:
    """A reader, and which files there are."""

    def __init__(self, folder: Path, **table: Any) -> None:
        self.made = found(folder / "bundle", data=DATA)
        self.blobs = Blobs(folder / "models")
        store_files(self.made, self.blobs)
        self.reader = BlobReader(ModelsTable(**table), self.blobs, self)

    async def names(self, sha256: str) -> bool:
        return sha256 in (self.made.digest, *(file.sha256 for file in self.made.release.files))


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def test_a_file_comes_in_pieces_and_so_does_the_document(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, blob_bytes_s_max=2**30)
    sha256 = hashlib.sha256(DATA).hexdigest()

    async def scene() -> None:
        data = b""
        while True:
            piece = await shelf.reader.read(ReadBlob(sha256, len(data), 100_000))
            assert (piece["sha256"], piece["offset"], piece["size"]) == (sha256, len(data), 300_000)
            data += base64.b64decode(piece["bytes_b64"])
            if len(data) == piece["size"]:
                break
        assert data == DATA
        assert (await shelf.reader.read(ReadBlob(sha256, 300_000)))["bytes_b64"] == ""
        document = await shelf.reader.read(ReadBlob(shelf.made.digest))
        assert base64.b64decode(document["bytes_b64"]) == shelf.made.document
        for asked, code in ((ReadBlob("cd" * 32), "unknown_file"), (ReadBlob(sha256, 300_001), "bad_arguments")):
            with pytest.raises(CallRejectedError) as refused:
                await shelf.reader.read(asked)
            assert refused.value.code == code
        shelf.blobs.path(sha256).unlink()
        with pytest.raises(CallFailedError, match="is not here"):
            await shelf.reader.read(ReadBlob(sha256))

    play(scene)


def test_who_comes_when_the_rate_is_spent_is_told_to_come_back(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, blob_bytes_s_max=100_000)
    sha256 = hashlib.sha256(DATA).hexdigest()

    async def ask() -> None:
        with pytest.raises(CallRejectedError, match="ask again in 2 s") as refused:
            await shelf.reader.read(ReadBlob(sha256, 250_000))
        assert (refused.value.code, refused.value.value) == ("busy", {"retry_after_s": 2})

    async def once() -> None:
        reading = asyncio.create_task(shelf.reader.read(ReadBlob(sha256, 0, 260_000)))
        while not shelf.reader.figures()["models_mqtt_bytes"]:
            await asyncio.sleep(0)
        await ask()
        await reading
        assert shelf.reader.figures() == {"models_mqtt_bytes": 260_000, "models_mqtt_busy": 1}

    play(once)
