"""How long it takes to find what a node gets of a model, in a catalogue of many: the real registry and store."""

import asyncio
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

from coordinator.fleet.facts import facts_of_birth
from coordinator.models.blobs import FOLDER_NAME, Blobs
from coordinator.models.registry import Registry
from coordinator.models.release import Release, ReleaseFile, ReleaseVariant, Role, digest_of, encode_release
from coordinator.rollout.deploying import Deployment
from coordinator.store import models
from coordinator.store.sqlite import SqliteStore
from schemas.bundles import Requires, Target
from schemas.messages import Birth

VERSIONS = 3
TARGETS = (Target.CPU, Target.EDGETPU, Target.GPU)
NODES = 50  # of different hardware, asked about in turn
SELECTIONS = 2000
ADDED_AT_ONCE = 100


def catalogue(count: int = 1000, selections: int = SELECTIONS) -> dict[str, Any]:
    """{"model_catalog": n, "select_ms_p99": x, "select_ms_p50": y}.

    One selection: what channel `stable` gives out of a model, read from the store, and which of its variants and
    pipelines a node gets. Blocks; makes a store of its own in a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-catalogue-") as folder:
        return asyncio.run(_measured(Path(folder), count, selections))


async def _measured(folder: Path, count: int, selections: int) -> dict[str, Any]:
    store = SqliteStore(folder)
    try:
        registry = Registry(store, Blobs(folder / FOLDER_NAME))
        await _fill(store, count)
        found = await store.read(lambda db: len({one.name for one in models.listed(db)}))
        took_ms = sorted([await _select(registry, at, count) for at in range(selections)])
    finally:
        store.close()
    p50, p99 = (took_ms[min(len(took_ms) - 1, int(len(took_ms) * share))] for share in (0.5, 0.99))
    return {"model_catalog": found, "select_ms_p99": round(p99, 3), "select_ms_p50": round(p50, 3)}


async def _fill(store: SqliteStore, count: int) -> None:
    for first in range(0, count, ADDED_AT_ONCE):
        numbers = range(first, min(count, first + ADDED_AT_ONCE))

        def add(db: Any, numbers: range = numbers) -> None:
            for number in numbers:
                for version in range(VERSIONS):
                    release = _release(number, version)
                    document = encode_release(release)
                    channel = "stable" if version == VERSIONS - 1 else ""
                    models.add(db, release, document, digest_of(document), channel=channel, now_ms=1)

        await store.run(add)


async def _select(registry: Registry, at: int, count: int) -> float:
    began_s = time.perf_counter()
    found = await registry.find(_name(at * 7919 % count))
    fit = Deployment(found.release, found.digest).fit(facts_of_birth(_birth(at % NODES)), _runs(found.release.name))
    took_ms = (time.perf_counter() - began_s) * 1000
    assert fit.own, fit.excluded
    return took_ms


def _name(number: int) -> str:
    return f"model-{number:05}"


def _release(number: int, version: int) -> Release:
    name, text = _name(number), f"1.{version}.0"
    digests = [hashlib.sha256(f"{name} {text} {one.value}".encode()).hexdigest() for one in TARGETS]
    pairs = list(zip(TARGETS, digests, strict=True))
    needs = Requires(arch=("arm64", "x86_64"), memory_mb=256.0, cores=1.0)
    return Release(
        name,
        text,
        tuple(ReleaseVariant(one, f"{one.value}.tflite", digest, 4_000_000, needs) for one, digest in pairs),
        tuple(ReleaseFile(f"{one.value}.tflite", digest, 4_000_000, Role.MODEL) for one, digest in pairs),
    )


def _birth(number: int) -> Birth:
    hardware = {"arch": ("arm64", "x86_64")[number % 2], "accelerators": ["edgetpu"] if number % 5 == 0 else []}
    return Birth(1, 1, hardware=hardware, resources={"memory_mb": 512.0 + number, "cores": 4.0})


def _runs(name: str) -> dict[str, Any]:
    return {"pipelines.door.model": {"model": f"{name}@1.0.0", "digest": ""}}
