"""A bundle's folder is checked as a whole before anything is stored; what is stored is what it says it is."""

import hashlib
import io
import os
import shutil
from pathlib import Path

import pytest

from agent.infer.bundle_files import load_bundle
from coordinator.models.blobs import Blobs, BlobsBusyError
from coordinator.models.folder import read_folder, store_files
from coordinator.models.release import ModelRefusedError, Role, decode_release, encode_release
from runtime.sqlite import StorageError
from tests.models.making import found, make_folder, model_bytes

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "platforms/manufacturing/models/weld_defects"


def test_a_bundle_becomes_a_release(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden/a.jpg").write_bytes(b"jpeg")
    made = found(
        tmp_path,
        version="2.1",
        more='[variants.requires]\narch = ["arm64"]\nmemory_mb = 512\n[variants.declared.latency_ms]\n"pi 5" = 38.5\n'
        '[declared.accuracy]\nmap50 = 0.61\n[lineage]\nparent = "finder@2.0.0"\nnote = "night shifts too"',
    )
    release = made.release
    assert release.reference == "finder@2.1.0"
    assert {file.path: file.role for file in release.files} == {
        "bundle.toml": Role.MANIFEST,
        "golden.json": Role.GOLDEN,
        "golden/a.jpg": Role.GOLDEN,
        "labels.txt": Role.LABELS,
        "m.tflite": Role.MODEL,
    }
    (variant,) = release.variants
    assert variant.requires.arch == ("arm64",)
    assert variant.declared.latency_ms == {"pi 5": 38.5}
    assert release.declared.accuracy == {"map50": 0.61}
    assert (release.lineage.parent, release.labels, variant.bytes) == ("finder@2.0.0", 2, 4096)
    assert decode_release(made.document) == release
    assert encode_release(decode_release(made.document)) == made.document


def test_the_shipped_bundle_is_one() -> None:
    assert read_folder(SHIPPED).release.reference == "weld_defects@1.0.0"


def test_an_agent_loads_what_the_store_gives_back(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "models")
    made = read_folder(SHIPPED)
    store_files(made, blobs)
    for file in decode_release(blobs.read(made.digest, 10**6)).files:
        (tmp_path / "back").mkdir(exist_ok=True)
        shutil.copyfile(blobs.path(file.sha256), tmp_path / "back" / file.path)
    assert load_bundle(tmp_path / "back").labels == load_bundle(SHIPPED).labels
    assert read_folder(tmp_path / "back").digest == made.digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "name: "),
        ({"name": "../x"}, "name: "),
        ({"version": "newest"}, "'newest' is no version"),
        ({"version": "1.0.0+5"}, "build metadata"),
        ({"data": b"PK\x03\x04 and so on"}, "m.tflite: it is not a TFLite model"),
        ({"data": b""}, "m.tflite: it has 0 bytes"),
        ({"top": "lables = 'x'"}, "lables: unknown key"),
        ({"top": "label_offset = 2"}, "label_offset: leaves none of the 2 labels"),
        ({"more": "[lineage]\nparent = 'finder'"}, "lineage.parent: 'finder' is not NAME@VERSION"),
        ({"more": "[lineage]\nparent = 'finder@x'"}, "lineage.parent: 'x' is no version"),
        ({"more": "[variants.requires]\nmemory_mb = -1"}, "variants[0].requires.memory_mb"),
        ({"more": "[declared.accuracy]\nmap50 = nan"}, "declared.accuracy"),
        ({"more": f"[lineage]\nnote = '{'x' * 3000}'"}, "lineage.note: too long"),
        (
            {"more": "[[variants]]\ntarget = 'cpu'\nfile = 'labels.txt'\nsha256 = '" + "0" * 64 + "'"},
            "the same target",
        ),
        (
            {"more": "[[variants]]\ntarget = 'gpu'\nfile = '../m.tflite'\nsha256 = '" + "0" * 64 + "'"},
            "inside the bundle",
        ),
        (
            {"more": "[[variants]]\ntarget = 'gpu'\nfile = 'g.tflite'\nsha256 = '" + "0" * 64 + "'"},
            "gpu is not there",
        ),
        ({"more": "[[variants]]\ntarget = 'tpu9'\nfile = 'm.tflite'\nsha256 = 'x'"}, "variants[1].target"),
        ({"more": "}"}, "is not valid TOML"),
    ],
)
def test_a_wrong_bundle_is_refused_with_the_reason(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(ModelRefusedError) as caught:
        read_folder(make_folder(tmp_path, **changes))  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_every_mistake_of_the_files_is_told_at_once(tmp_path: Path) -> None:
    make_folder(tmp_path, version="x")
    (tmp_path / "m.tflite").write_bytes(b"other bytes")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelRefusedError) as caught:
        read_folder(tmp_path)
    for said in (
        "6 mistake(s)", "m.tflite: it has the sha256", "labels.txt: it is not UTF-8", "empty: it has 0 bytes",
        "link: it cannot be opened", "pipe: it is no regular file", "'x' is no version",
    ):  # fmt: skip
        assert said in str(caught.value)


def test_a_folder_without_a_manifest_or_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelRefusedError, match=r"has no bundle\.toml"):
        read_folder(tmp_path)
    with pytest.raises(ModelRefusedError, match="cannot be read"):
        read_folder(tmp_path / "nowhere")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    for i in range(70):
        (tmp_path / f"junk{i}").write_text("x")
    with pytest.raises(ModelRefusedError, match="74 files, at most 64"):
        read_folder(tmp_path)


def test_a_signature_is_taken_by_its_form(tmp_path: Path) -> None:
    unsigned = found(tmp_path)
    good = f"release-key {'A' * 86}=="
    (tmp_path / "bundle.sig").write_text(good + "\n")
    signed = read_folder(tmp_path)
    assert signed.signature == good
    assert signed.digest == unsigned.digest  # it signs the release, and is not part of it
    (tmp_path / "bundle.sig").write_text("release-key AAAA")
    with pytest.raises(ModelRefusedError, match="64 bytes"):
        read_folder(tmp_path)


def test_files_are_stored_once_and_read_back(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "models")
    made = found(tmp_path / "a")
    assert store_files(made, blobs) == made.release.bytes
    assert store_files(made, blobs) == 0
    other = found(tmp_path / "b", version="1.0.1")
    manifest = next(file for file in other.release.files if file.role is Role.MANIFEST)
    assert store_files(other, blobs) == manifest.bytes
    assert blobs.read(made.digest, 10**6) == made.document
    for file in made.release.files:
        assert blobs.path(file.sha256).read_bytes() == (tmp_path / "a" / file.path).read_bytes()


def test_a_file_that_changes_meanwhile_is_refused_and_nothing_stays(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "models")
    made = found(tmp_path / "a")
    (tmp_path / "a/m.tflite").write_bytes(model_bytes(seed=1))
    with pytest.raises(ModelRefusedError, match="changed while it was read"):
        store_files(made, blobs)
    (model,) = (file for file in made.release.files if file.role is Role.MODEL)
    assert blobs.size(model.sha256) is None
    assert not list(blobs.folder.rglob("*.tmp"))


@pytest.mark.parametrize("data", [b"", b"abc", b"abcde" * 10, b"abcdX"])
def test_only_the_right_bytes_are_taken(tmp_path: Path, data: bytes) -> None:
    blobs = Blobs(tmp_path)
    sha256 = hashlib.sha256(b"abcde").hexdigest()
    with pytest.raises(ModelRefusedError):
        blobs.put(sha256, io.BytesIO(data), 5)
    assert blobs.size(sha256) is None


def test_a_damaged_file_is_replaced_when_it_comes_again(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    sha256 = hashlib.sha256(b"abcde").hexdigest()
    blobs.put(sha256, io.BytesIO(b"abcde"), 5)
    blobs.path(sha256).write_bytes(b"abXde")
    assert not blobs.is_sound(sha256)
    with pytest.raises(ModelRefusedError, match="damaged"):
        blobs.read(sha256, 100)
    assert blobs.put(sha256, io.BytesIO(b"abcde"), 5)
    assert blobs.is_sound(sha256)


def test_a_sweep_takes_what_nobody_names_and_waits_for_nobody(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "models")
    made = found(tmp_path / "a")
    store_files(made, blobs)
    named = frozenset({made.digest, *(file.sha256 for file in made.release.files)})
    stray = blobs.folder / "ab" / f".{'ab' * 32}.1234.tmp"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"cut off")
    assert blobs.unnamed(named) == [stray]
    with blobs.adding(), blobs.adding(), pytest.raises(BlobsBusyError), blobs.sweeping():
        raise AssertionError("swept while somebody adds")
    with blobs.sweeping():
        with pytest.raises(BlobsBusyError), blobs.adding():
            raise AssertionError("added during a sweep")
        assert blobs.sweep(named) == (1, 7)
    assert all(blobs.is_sound(one) for one in named)


def test_a_disk_that_refuses_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        store_files(found(tmp_path / "a"), Blobs(tmp_path / "models"))


def test_a_disk_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match="no room"):
        store_files(found(tmp_path / "a"), Blobs(tmp_path / "models"))
