"""Reads a model bundle from its folder and checks the files it names."""

import tomllib
from dataclasses import replace
from pathlib import Path

from agent.infer.bundle import MANIFEST, Bundle, Variant, parse_bundle
from agent.infer.engine import ModelError
from agent.infer.tflite_file import LABEL_FILE_BYTES_MAX, check_identifier, label_lines, sha256_of


def load_bundle(path: Path | str, *, in_part: bool = False) -> Bundle:
    """The bundle in a folder (or by its bundle.toml), every file present, identified and of the stated sha256.

    `in_part`: variants whose file is not there are left out, as a node has only those that it can run.

    Raises ModelError. Tensors are checked when an engine opens: `Preprocessor` and `build_decoder` refuse misfits.
    """
    manifest = Path(path)
    if manifest.name != MANIFEST:
        manifest = manifest / MANIFEST
    try:
        table = tomllib.loads(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"model bundle {manifest} cannot be read: {error.strerror}",
            hint="give the folder that holds bundle.toml",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"model bundle {manifest} is not valid TOML: {error}", hint="correct the file") from error
    folder = manifest.parent
    bundle = parse_bundle(table, folder, lambda name: read_label_file(folder / name), str(manifest))
    if in_part:
        there = tuple(variant for variant in bundle.variants if variant.path.exists())
        bundle = replace(bundle, variants=there or bundle.variants)
    for variant in bundle.variants:
        check_variant(variant)
    return bundle


def read_label_file(path: Path) -> tuple[str, ...]:
    """One label a line. Raises ModelError."""
    try:
        if path.stat().st_size > LABEL_FILE_BYTES_MAX:
            raise ModelError(f"label file {path} is larger than {LABEL_FILE_BYTES_MAX} bytes")
        return label_lines(path.read_bytes())
    except OSError as error:
        raise ModelError(f"label file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"label file {path} is not UTF-8 text: {error}") from error


def check_variant(variant: Variant) -> None:
    """Raises ModelError unless the file is a TFLite model with the stated sha256."""
    check_identifier(variant.path)
    found = sha256_of(variant.path)
    if found != variant.sha256:
        raise ModelError(
            f"model file {variant.path} has the sha256 {found}, but bundle.toml states {variant.sha256}",
            hint="the file is damaged, truncated or another version: copy it again",
        )
