"""What is to be quantised, with which pictures, and what the new bundle says. Pure but for reading files."""

import hashlib
import json
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coordinator.models.folder import SIGNATURE, read_folder
from coordinator.models.release import ModelRefusedError, Release
from coordinator.models.versions import VersionError, parse_version
from schemas.bundles import MANIFEST, Target

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
PICTURES_FEW = 50
PICTURES_MAX = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything checked."""

    source: Path  # a SavedModel's folder, or a .keras file
    bundle: Path
    release: Release  # of the bundle
    table: Mapping[str, Any]  # its manifest
    pictures: tuple[Path, ...]
    out: Path
    version: str

    def job(self, folder: Path) -> dict[str, Any]:
        """For `convert.py`, with files in a temporary folder."""
        variants = self.release.variants
        reference = next((one for one in variants if one.target is Target.CPU), variants[0])
        return {
            "source": str(self.source.resolve()),
            "pictures": [str(path.resolve()) for path in self.pictures],
            "rule": input_rule(self.table.get("input", {})),
            "reference": str((self.bundle / reference.file).resolve()),
            "int8": str(folder / "int8.tflite"),
            "float": str(folder / "float.tflite"),
        }


def wish_of(source: Path, bundle: Path | None, calibration: Path, out: Path, version: str, most: int) -> Wish:
    """Raises ModelRefusedError with every reason why it cannot be."""
    mistakes: list[str] = []
    model, described = _source(source, bundle, mistakes)
    pictures = _pictures(calibration, mistakes)
    if out.exists():
        mistakes.append(f"--out {out} is there already")
    release, table = None, dict[str, Any]()
    if described is not None:
        try:
            release = read_folder(described).release
            table = tomllib.loads((described / MANIFEST).read_text(encoding="utf-8"))
        except ModelRefusedError as error:
            mistakes.append(str(error))
    found = _version(version, release, mistakes)
    if mistakes or model is None or described is None or release is None:
        raise ModelRefusedError("; ".join(mistakes), hint="nothing was made")
    step = max(1, len(pictures) // most)
    return Wish(model, described, release, table, tuple(pictures[::step][:most]), out, found)


def input_rule(table: Mapping[str, Any]) -> dict[str, Any]:
    """bundle.toml's [input] with its defaults; means and deviations one a channel."""
    color = table.get("color", "rgb")
    channels = 1 if color == "gray" else 3
    std = table.get("std", [] if "mean" not in table else 1.0)
    mean = table.get("mean", 0.0)
    return {
        "layout": table.get("layout", "nhwc"),
        "color": color,
        "resize": table.get("resize", "stretch"),
        "fill": table.get("fill", 114),
        "mean": mean if isinstance(mean, list) else [mean] * channels,
        "std": std if isinstance(std, list) else [std] * channels,
    }


def write_bundle(wish: Wish, int8: Path, note: str) -> Release:
    """The new bundle in its folder, all of it or nothing. Raises ModelRefusedError."""
    partial = wish.out.with_name(f".{wish.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _fill(wish, partial, int8, note)
        release = read_folder(partial).release
        partial.rename(wish.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return release


def _fill(wish: Wish, folder: Path, int8: Path, note: str) -> None:
    folder.mkdir(parents=True)
    left_out = {MANIFEST, SIGNATURE, *(one.file for one in wish.release.variants)}
    for file in wish.release.files:
        if file.path not in left_out and not file.path.endswith(".keras"):
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wish.bundle / file.path, folder / file.path)
    name = f"{wish.release.name}_int8.tflite"
    shutil.copyfile(int8, folder / name)
    needs = next((one.requires for one in wish.release.variants if one.target is Target.CPU), None)
    variant: dict[str, Any] = {
        "target": "cpu", "file": name, "sha256": hashlib.sha256(int8.read_bytes()).hexdigest(),
    }  # fmt: skip
    if needs is not None:
        requires = {"arch": list(needs.arch), "memory_mb": needs.memory_mb, "cores": needs.cores}
        variant |= {"requires": found} if (found := {key: value for key, value in requires.items() if value}) else {}
    table = {key: value for key, value in wish.table.items() if key not in ("declared", "variants", "lineage")}
    table |= {
        "version": wish.version,
        "lineage": {"parent": wish.release.reference, "note": note},
        "variants": [variant],
    }
    (folder / MANIFEST).write_text(toml(table), encoding="utf-8")


def toml(table: Mapping[str, Any]) -> str:
    """A table as TOML: plain values, then tables, then lists of tables."""
    lines: list[str] = []

    def write(part: Mapping[str, Any], path: str) -> None:
        nested: list[tuple[str, Any]] = []
        for key, value in part.items():
            if isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
                nested.append((key, value))
            else:
                lines.append(f"{_key(key)} = {_value(value)}")
        for key, value in nested:
            name = f"{path}.{_key(key)}" if path else _key(key)
            for one in value if isinstance(value, list) else [value]:
                lines.extend(["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]"])
                write(one, name)

    write(table, "")
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=True)
    return str(value).lower() if isinstance(value, bool) else repr(value)


# ---- what is given ------------------------------------------------------------------------------


def _source(source: Path, bundle: Path | None, mistakes: list[str]) -> tuple[Path | None, Path | None]:
    """(what can be converted, the bundle that describes it)."""
    asks = "give the SavedModel folder or the .keras file that it was made from, and --bundle FOLDER"
    if source.suffix == ".tflite":
        mistakes.append(f"{source}: a .tflite file cannot be quantised again: {asks}")
        return None, bundle
    if (source / MANIFEST).is_file():
        keras = sorted(source.glob("*.keras"))
        if len(keras) == 1:
            return keras[0], bundle or source
        mistakes.append(f"{source}: a bundle has .tflite files, and they cannot be quantised again: {asks}")
        return None, bundle or source
    if bundle is None:
        mistakes.append("--bundle: which bundle says how the model takes its pictures, and what its labels are?")
    if (source / "saved_model.pb").is_file() or (source.is_file() and source.suffix == ".keras"):
        return source, bundle
    mistakes.append(f"{source} is no bundle, no SavedModel folder (with saved_model.pb) and no .keras file")
    return None, bundle


def _pictures(folder: Path, mistakes: list[str]) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.is_file())
    except OSError as error:
        mistakes.append(f"--calibration {folder} cannot be read: {error.strerror}")
        return []
    if not found:
        mistakes.append(f"--calibration {folder} has no pictures ({', '.join(sorted(PICTURES))})")
    return found


def _version(text: str, release: Release | None, mistakes: list[str]) -> str:
    """That which is given, or the next one after the bundle's."""
    try:
        if text:
            version = parse_version(text)
        elif release is not None:
            before = parse_version(release.version)
            version = replace(before, patch=before.patch if before.before else before.patch + 1, before=())
        else:
            return ""
    except VersionError as error:
        mistakes.append(f"--version: {error}")
        return ""
    if release is not None and str(version) == release.version:
        mistakes.append(f"--version: {version} is that of the bundle, and a version never changes")
    return str(version)
