"""Bundles' folders and releases as the tests need them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from coordinator.models.folder import FolderRelease, read_folder
from coordinator.models.release import Release, ReleaseFile, ReleaseVariant, Role
from schemas.bundles import Lineage, Requires, Target

FREE = Requires()


def model_bytes(size: int = 4096, seed: int = 0) -> bytes:
    """What begins as a TFLite file does."""
    body = hashlib.shake_256(str(seed).encode()).digest(size - 8)
    return b"\x1c\x00\x00\x00TFL3" + body


def make_folder(
    folder: Path,
    *,
    name: str = "finder",
    version: str = "1.0.0",
    data: bytes | None = None,
    more: str = "",
    top: str = "",
) -> Path:
    """A bundle's folder with one CPU variant. `top` goes before the manifest's first table, `more` to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    data = model_bytes() if data is None else data
    (folder / "m.tflite").write_bytes(data)
    (folder / "labels.txt").write_text("pore\ncrack\n")
    (folder / "golden.json").write_text("[]")
    (folder / "bundle.toml").write_text(
        f"name = {json.dumps(name)}\nversion = {json.dumps(version)}\nlabels = 'labels.txt'\n{top}\n"
        "[input]\nlayout = 'nhwc'\n[output]\ndecoder = 'centerpoint'\n"
        f"[[variants]]\ntarget = 'cpu'\nfile = 'm.tflite'\nsha256 = '{hashlib.sha256(data).hexdigest()}'\n{more}\n"
    )
    return folder


def found(folder: Path, **changes: Any) -> FolderRelease:
    return read_folder(make_folder(folder, **changes))


def release(
    *targets: Target, name: str = "finder", version: str = "1.0.0", requires: Requires = FREE, parent: str = ""
) -> Release:
    """A release of files that are nowhere."""
    wanted = targets or (Target.CPU,)
    digests = [hashlib.sha256(f"{name} {version} {one.value}".encode()).hexdigest() for one in wanted]
    pairs = list(zip(wanted, digests, strict=True))
    return Release(
        name,
        version,
        tuple(ReleaseVariant(one, f"{one.value}.tflite", sha256, 100, requires) for one, sha256 in pairs),
        tuple(ReleaseFile(f"{one.value}.tflite", sha256, 100, Role.MODEL) for one, sha256 in pairs),
        lineage=Lineage(parent),
    )
