"""Models in a bucket: a real client against an S3-compatible service."""

import hashlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.config import load_config
from coordinator.evidence.settings import BackendKind, EvidenceTable
from coordinator.models.blobs import Blobs
from coordinator.models.folder import store_files
from coordinator.models.mirror import OWNER, Mirror, open_blobs
from coordinator.models.registry import stored_release
from coordinator.models.settings import ModelsTable
from runtime.errors import ConfigError
from runtime.sqlite import StorageError
from schemas.topics import check_node_name
from tests.models.making import found

IN_BUCKET = ModelsTable(backend=BackendKind.S3)


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    """An S3-compatible service with a bucket; its port."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    from minio import Minio

    port = server._server.server_port
    client = Minio(
        endpoint=f"127.0.0.1:{port}", access_key="a-key", secret_key="s-key", secure=False, region="us-east-1"
    )
    client.make_bucket(bucket_name="models")
    yield port
    server.stop()


def table(folder: Path, port: int) -> EvidenceTable:
    folder.mkdir(parents=True, exist_ok=True)
    for key in ("a-key", "s-key"):
        (folder / key).write_text(key)
    return EvidenceTable(
        s3_endpoint=f"127.0.0.1:{port}", s3_bucket="models", s3_region="us-east-1", s3_tls=False, s3_prefix="x/",
        s3_access_key_file=folder / "a-key", s3_secret_key_file=folder / "s-key",
    )  # fmt: skip


def mirror(folder: Path, port: int) -> Mirror:
    opened = open_blobs(IN_BUCKET, table(folder, port), folder)
    assert isinstance(opened, Mirror)
    return opened


def test_another_machine_has_what_one_has_stored(tmp_path: Path, s3: int) -> None:
    made = found(tmp_path / "bundle")
    here, there = mirror(tmp_path / "here", s3), mirror(tmp_path / "there", s3)
    assert there.size(made.digest) is None
    store_files(made, here)
    assert stored_release(there, made.digest) == (made.document, made.release)
    for file in made.release.files:
        assert there.path(file.sha256).read_bytes() == (tmp_path / "bundle" / file.path).read_bytes()
    assert not list(there.folder.rglob("*.tmp"))


def test_what_was_added_without_the_bucket_comes_into_it(tmp_path: Path, s3: int) -> None:
    made = found(tmp_path / "bundle", version="3.0.0")
    here = mirror(tmp_path / "here", s3)
    store_files(made, Blobs(here.folder))
    stored_release(here, made.digest)  # as addModel does
    assert stored_release(mirror(tmp_path / "there", s3), made.digest)[1] == made.release


def test_another_file_under_the_name_is_not_taken(tmp_path: Path, s3: int) -> None:
    here = mirror(tmp_path / "here", s3)
    (tmp_path / "wrong").write_bytes(b"wrong")
    here._bucket.put(OWNER, "ab" * 32, tmp_path / "wrong", "")
    assert here.size("ab" * 32) is None
    assert not list(here.folder.rglob("*.tmp"))


def test_a_sweep_clears_the_bucket_too(tmp_path: Path, s3: int) -> None:
    made = found(tmp_path / "bundle", version="4.0.0")
    here = mirror(tmp_path / "here", s3)
    store_files(made, here)
    with here.sweeping():
        assert here.sweep(frozenset())[0] == 5
    assert mirror(tmp_path / "there", s3).size(made.digest) is None


def test_a_bucket_nobody_answers_for_stores_nothing_and_says_so(tmp_path: Path) -> None:
    away = mirror(tmp_path / "here", 1)
    with pytest.raises(StorageError, match=r"models: cannot .* is the endpoint reachable"):
        away.put(hashlib.sha256(b"x").hexdigest(), io.BytesIO(b"x"), 1)


def test_no_node_has_the_name_of_the_models() -> None:
    assert check_node_name(OWNER)


def test_a_bucket_must_be_configured(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[models]\nbackend = "s3"\n')
    with pytest.raises(ConfigError, match=r"evidence\.s3_endpoint: is needed"):
        load_config(file)
    assert type(open_blobs(ModelsTable(), EvidenceTable(), tmp_path)) is Blobs
