"""Releases, a real HTTP server that gives them out, and an agent that is to have them."""

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.capture.images import read_picture
from coordinator.models.blobs import Blobs
from coordinator.models.folder import FolderRelease, read_folder, store_files
from coordinator.models.http import ModelsHttp
from coordinator.models.settings import ModelsTable
from schemas.documents import Desired, Reported, decode_reported, encode
from tests.agent_process.agents import ROOT, AgentProcess, Peer

WELD = ROOT / "platforms/manufacturing/models/weld_defects"


def weld_bundle(folder: Path, version: str, *, confidence: float = 0.4, golden: bool = True) -> Path:
    """The shipped model under another version, with golden frames of its own if wanted."""
    folder.mkdir(parents=True)
    for name in ("labels.txt", "weld_defects_int8.tflite", "MODEL_CARD.md"):
        shutil.copyfile(WELD / name, folder / name)
    text = (WELD / "bundle.toml").read_text(encoding="utf-8")
    text = text.replace('version = "1"', f'version = "{version}"').replace(
        "confidence = 0.4", f"confidence = {confidence}"
    )
    (folder / "bundle.toml").write_text(text, encoding="utf-8")
    if golden:
        give_golden(folder)
    return folder


def give_golden(folder: Path) -> None:
    """What is in the shipped golden picture, by its golden answers."""
    shutil.copyfile(WELD / "golden.jpg", folder / "golden.jpg")
    picture = read_picture(WELD / "golden.jpg")
    scale = (picture.width, picture.height) * 2
    objects = []
    for one in json.loads((WELD / "golden.json").read_text(encoding="utf-8")):
        box = [round(share * size, 1) for share, size in zip(one["box"], scale, strict=True)]
        objects.append(f"{{ class = {json.dumps(one['label'])}, box = {box} }}")
    (folder / "golden.toml").write_text(
        "[thresholds]\nlatency_factor_max = 100.0\nlatency_slack_ms = 1000.0\n"
        f'[[frames]]\nfile = "golden.jpg"\nobjects = [{", ".join(objects)}]\n'
    )


class Shop:
    """Releases by name and version, as the coordinator's server asks for them; it runs in a thread of its own."""

    def __init__(self, folder: Path, table: ModelsTable | None = None) -> None:
        self.blobs = Blobs(folder)
        self.releases: dict[tuple[str, str], FolderRelease] = {}
        self._table = table or ModelsTable()
        self._loop = asyncio.new_event_loop()
        self._http = ModelsHttp(self._table, self.blobs, self)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._task: asyncio.Task[None] | None = None

    def add(self, folder: Path) -> FolderRelease:
        made = read_folder(folder)
        store_files(made, self.blobs)
        self.releases[made.release.name, made.release.version] = made
        return made

    async def names(self, sha256: str) -> bool:
        return any(sha256 in {file.sha256 for file in one.release.files} for one in self.releases.values())

    async def signature(self, name: str, version: str) -> str | None:
        made = self.releases.get((name, version))
        return None if made is None else made.signature

    async def document(self, name: str, version: str) -> tuple[str, str] | None:
        made = self.releases.get((name, version))
        return None if made is None else (made.digest, made.document.decode())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}"

    @property
    def bytes_out(self) -> float:
        return self._http.figures()["models_http_bytes"]

    def _run(self) -> None:
        async def serve() -> None:
            self._task = asyncio.current_task()
            await self._http.run()

        try:
            self._loop.run_until_complete(serve())
        except asyncio.CancelledError:
            pass

    @contextmanager
    def open(self) -> Iterator["Shop"]:
        self._thread.start()
        while not self._http.port:
            threading.Event().wait(0.01)
        try:
            yield self
        finally:
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(20)
            self._loop.close()


def release_of(made: FolderRelease) -> dict[str, str]:
    """As `models.<name>.release` wants it."""
    return {"version": made.release.version, "digest": made.digest}


def model_of(made: FolderRelease) -> dict[str, str]:
    """As `pipelines.<name>.model` wants it."""
    return {"model": made.release.reference, "digest": made.digest}


class Wishes:
    """The desired documents of a node, one revision after the other, and what it reports."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.revision = 0

    def want(self, **fields: Any) -> None:
        self.revision += 1
        values = {path.replace("__", "."): value for path, value in fields.items()}
        self._peer.publish("edge/v1/gw-1/desired", encode(Desired(1, self.revision, values)), retain=True)

    def reports(self) -> list[Reported]:
        """Those that answer the last wish."""
        found = [decode_reported(heard.payload) for heard in self._peer.on("reported")]
        return [one for one in found if one.revision == self.revision]

    def wait_held(self, path: str, value: Any, agent: AgentProcess) -> None:
        self._peer.wait(lambda: any(holds(one, path, value) for one in self.reports()), agent)

    def wait_refused(self, path: str, agent: AgentProcess) -> str:
        self._peer.wait(lambda: any(path in one.refused for one in self.reports()), agent)
        return next(one.refused[path] for one in self.reports() if path in one.refused)


def holds(report: Reported, path: str, value: Any) -> bool:
    return report.fields.get(path) == value and path not in report.pending and path not in report.refused
