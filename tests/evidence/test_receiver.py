"""The coordinator's side: durable before answered, verified before kept, limits with a reason, whatever comes."""

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.edgectl import main as edgectl_main
from coordinator.evidence.backend import BackendError, Folder
from coordinator.evidence.places import SPOOL_NAME, open_backend
from coordinator.evidence.room import PARTS_OF_A_NODE_MAX
from coordinator.evidence.settings import BackendKind, EvidenceTable, OnQuota
from coordinator.evidence.spool import Spool
from runtime.errors import ConfigError
from runtime.sqlite import DiskFullError
from schemas.blobs import Chunk, Held, Offer, Reason, Refused, encode_blob
from tests.broker import broker
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode, until
from tests.evidence.coordinator_side import digest, side

DATA = random.Random(7).randbytes(5000)
NAME = digest(DATA)


def refused(answer: Held | Refused) -> Reason:
    assert isinstance(answer, Refused), answer
    return answer.reason


def test_a_file_is_taken_verified_indexed_and_put_in_its_place(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            answer = await one.send(DATA, content_type="image/jpeg", camera_id="cam1", events=["s.alert.1"])
            assert answer == Held(len(DATA), [(0, len(DATA))], complete=True)
            await one.stored(NAME)
            (row,) = one.rows(event_id="s.alert.1")
            assert (row.node, row.sha256, row.content_type, row.camera_id) == ("gw-1", NAME, "image/jpeg", "cam1")
            assert one.read(NAME) == DATA
            await until(lambda: not list((tmp_path / SPOOL_NAME).rglob("*.*")))
            again = await one.send(DATA, events=["s.alert.2"])  # it is here: nothing need be sent
            assert isinstance(again, Held) and again.complete
            assert one.rows(event_id="s.alert.2")[0].events == ("s.alert.1", "s.alert.2")
            assert one.receiver.counters.files == 1
            assert one.wire.acknowledged == one._sent

    asyncio.run(scene())


def test_pieces_in_any_order_twice_and_overlapping(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(NAME, Offer(len(DATA)))
            spans = [(4000, 5000), (0, 700), (0, 700), (300, 2000), (3500, 4200), (1999, 3501)]
            for first, last in spans:
                answer = await one.ask(NAME, Chunk(first, DATA[first:last]))
            assert isinstance(answer, Held) and answer.complete
            await one.stored(NAME)
            assert one.read(NAME) == DATA

    asyncio.run(scene())


def test_a_killed_coordinator_says_what_it_still_holds(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(NAME, Offer(len(DATA)))
            await one.ask(NAME, Chunk(0, DATA[:1000]))
            await one.ask(NAME, Chunk(3000, DATA[3000:4000]))
        async with side(tmp_path) as two:
            assert await two.ask(NAME, Offer(len(DATA))) == Held(len(DATA), [(0, 1000), (3000, 4000)])
            await two.ask(NAME, Chunk(1000, DATA[1000:3000]))
            await two.ask(NAME, Chunk(4000, DATA[4000:]))
            await two.stored(NAME)
            assert two.read(NAME) == DATA

    asyncio.run(scene())


@pytest.mark.parametrize("harm", ["record", "part", "both", "short", "lies"])
def test_a_damaged_spool_costs_sending_again_and_nothing_else(tmp_path: Path, harm: str) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(NAME, Offer(len(DATA)))
            await one.ask(NAME, Chunk(0, DATA[:4000]))
        part = Spool(tmp_path / SPOOL_NAME).path("gw-1", NAME)
        record = part.with_suffix(".json")
        if harm in ("record", "both"):
            record.write_text("{ torn")
        if harm in ("part", "both"):
            part.unlink()
        if harm == "short":
            part.write_bytes(DATA[:17])
        if harm == "lies":  # the record came to disk, the bytes before it did not
            part.write_bytes(bytes(len(DATA)))
            record.write_text(json.dumps(json.loads(record.read_text()) | {"spans": [[0, 4999]]}))
        async with side(tmp_path) as two:
            answer = await two.ask(NAME, Offer(len(DATA)))
            if harm == "lies":
                assert refused(await two.ask(NAME, Chunk(4999, DATA[4999:]))) is Reason.BAD_HASH
            else:
                assert answer == Held(len(DATA))
            answer = await two.send(DATA)
            assert isinstance(answer, Held) and answer.complete
            await two.stored(NAME)
            assert two.read(NAME) == DATA

    asyncio.run(scene())


def test_bytes_that_are_not_what_the_name_says_are_not_kept(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(NAME, Offer(len(DATA)))
            answer = await one.ask(NAME, Chunk(0, b"x" + DATA[1:]))
            assert refused(answer) is Reason.BAD_HASH
            assert one.rows() == []
            assert list((tmp_path / SPOOL_NAME).rglob("*.*")) == []
            assert refused(await one.ask(NAME, Chunk(0, DATA))) is Reason.NOT_OFFERED  # begin again

    asyncio.run(scene())


def test_what_is_no_piece_of_the_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path, blob_bytes_max=6000) as one:
            assert refused(await one.ask("ab" * 32, Chunk(0, b"x"))) is Reason.NOT_OFFERED
            assert refused(await one.ask("ab" * 32, Offer(6001))) is Reason.TOO_LARGE
            await one.ask(NAME, Offer(len(DATA)))
            assert refused(await one.ask(NAME, Chunk(len(DATA), b"x"))) is Reason.BAD_CHUNK
            assert refused(await one.ask(NAME, Chunk(4990, b"x" * 11))) is Reason.BAD_CHUNK
            assert refused(await one.ask(NAME, Chunk(0, b""))) is Reason.BAD_CHUNK
            before = one.receiver.counters.refused
            no_messages = (NAME, b""), (NAME, b"\0\5abc"), (NAME, b"\0\1\xc0"), ("../etc", b"x"), ("A" * 64, b"x")
            for name, payload in no_messages:
                one.say(name, payload)
            await until(lambda: one.receiver.counters.refused == before + 5)
            answer = await one.ask(NAME, Chunk(0, DATA))
            assert isinstance(answer, Held) and answer.complete
            await until(lambda: one.wire.acknowledged == one._sent)

    asyncio.run(scene())


# ---- room ------------------------------------------------------------------------------------------


def blob(n: int, size: int = 1000) -> bytes:
    return bytes([n]) * size


def test_a_quota_refuses_with_the_reason_and_when_to_try_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path, quota_node_bytes=10_000, quota_bytes=14_000) as one:
            for n in (1, 2):
                assert isinstance(await one.send(blob(n)), Held)
            answer = await one.send(blob(3))
            assert isinstance(answer, Refused)
            assert (answer.reason, "node gw-1, 10000" in answer.detail) == (Reason.QUOTA, True)
            assert answer.retry_after_s > 0
            assert isinstance(await one.send(blob(4), "gw-2"), Held)
            answer = await one.send(blob(5), "gw-2")
            assert isinstance(answer, Refused) and "all nodes, 14000" in answer.detail
        async with side(tmp_path, quota_node_bytes=10_000) as two:  # what is there counts after a restart too
            assert refused(await two.send(blob(3))) is Reason.QUOTA

    asyncio.run(scene())


def test_or_the_oldest_give_way(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path, quota_node_bytes=10_000, on_quota=OnQuota.SHED_OLDEST) as one:
            await one.send(blob(9), "gw-2")
            for n in (1, 2, 3):
                answer = await one.send(blob(n))
                assert isinstance(answer, Held) and answer.complete
                await one.stored(digest(blob(n)))
            assert {row.sha256 for row in one.rows(node="gw-1")} == {digest(blob(2)), digest(blob(3))}
            assert len(one.rows(node="gw-2")) == 1
            assert not one.backend.has("gw-1", digest(blob(1)))
            assert refused(await one.send(blob(4, 10_001))) is Reason.QUOTA  # it would not fit at all

    asyncio.run(scene())


def test_a_node_that_begins_many_files_pushes_out_only_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(digest(blob(99)), Offer(1000), "gw-2")
            for n in range(PARTS_OF_A_NODE_MAX + 3):
                await one.ask(digest(blob(n)), Offer(1000))
            assert one.receiver.report()["evidence_arriving"] == PARTS_OF_A_NODE_MAX + 1
            assert len(list((tmp_path / SPOOL_NAME / "gw-2").glob("*.part"))) == 1

    asyncio.run(scene())


def test_a_full_spool_and_a_full_disk_are_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with side(tmp_path, spool_bytes_max=6000, blob_bytes_max=6000) as one:
            await one.ask(NAME, Offer(len(DATA)))
            answer = await one.ask(digest(blob(1, 2000)), Offer(2000))
            assert isinstance(answer, Refused)
            assert (answer.reason, answer.retry_after_s > 0) == (Reason.NO_ROOM, True)

            def full(self: Spool, *rest: object) -> None:
                raise DiskFullError("evidence: the spool cannot use x: No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(Spool, "write", full)
                answer = await one.ask(NAME, Chunk(0, DATA[:1000]))
                assert refused(answer) is Reason.NO_ROOM
                assert "No space" in one.receiver.problem
            answer = await one.send(DATA)
            assert isinstance(answer, Held) and answer.complete
            assert one.receiver.problem == ""
        async with side(tmp_path / "b", free_bytes_min=2**49) as two:
            assert refused(await two.ask(NAME, Offer(len(DATA)))) is Reason.NO_ROOM

    asyncio.run(scene())


def test_a_part_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(NAME, Offer(len(DATA)))
            await one.ask(NAME, Chunk(0, DATA[:1000]))
            Spool(tmp_path / SPOOL_NAME).remove("gw-1", NAME)
            assert refused(await one.ask(NAME, Chunk(1000, DATA[1000:2000]))) is Reason.NO_ROOM
            assert await one.ask(NAME, Offer(len(DATA))) == Held(len(DATA))
            answer = await one.send(DATA)
            assert isinstance(answer, Held) and answer.complete

    asyncio.run(scene())


def test_a_file_belongs_to_so_many_events_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.evidence.EVENTS_MAX", 3)

    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.send(DATA, events=["a", "b"])
            await one.ask(NAME, Offer(len(DATA), events=["b", "c", "d", "e"]))
            assert one.rows()[0].events == ("a", "b", "c")

    asyncio.run(scene())


def test_more_than_the_queue_holds_is_dropped_and_sent_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path) as one:
            await one.ask(NAME, Offer(len(DATA)))
            piece = Chunk(0, bytes(400 * 1024))
            for _ in range(100):  # all in one turn of the loop
                one.say(NAME, piece)
            assert one.receiver.counters.dropped > 0
            await until(lambda: one.wire.acknowledged == one._sent)
            answer = await one.send(DATA)
            assert isinstance(answer, Held) and answer.complete

    asyncio.run(scene())


# ---- the place where files stay --------------------------------------------------------------------


class Away:
    """A place that cannot be reached, until it can."""

    def __init__(self, folder: Path) -> None:
        self.place = Folder(folder)
        self.away = True
        self.asked = 0

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise BackendError("evidence: cannot store bucket/x: MaxRetryError")

    def put(self, node: str, sha256: str, path: Path, content_type: str) -> None:
        self._answer()
        self.place.put(node, sha256, path, content_type)

    def has(self, node: str, sha256: str) -> bool:
        self._answer()
        return self.place.has(node, sha256)

    def get(self, node: str, sha256: str) -> Iterator[bytes]:
        self._answer()
        return self.place.get(node, sha256)

    def delete(self, node: str, sha256: str) -> None:
        self._answer()
        self.place.delete(node, sha256)


def test_files_wait_in_the_spool_for_a_place_that_is_away(tmp_path: Path) -> None:
    async def scene() -> None:
        place = Away(tmp_path / "place")
        async with side(tmp_path, place) as one:
            answer = await one.send(DATA)
            assert isinstance(answer, Held) and answer.complete  # it is ours from here on
            await until(lambda: place.asked >= 1)
            assert [row.state for row in one.rows()] == ["spooled"]
            assert "MaxRetryError" in one.receiver.problem
        async with side(tmp_path, place) as two:  # killed meanwhile
            answer = await two.ask(NAME, Offer(len(DATA)))
            assert isinstance(answer, Held) and answer.complete
            place.away = False
            await two.stored(NAME)
            assert b"".join(place.place.get("gw-1", NAME)) == DATA

    asyncio.run(scene())


def test_killed_between_the_move_and_its_note(tmp_path: Path) -> None:
    async def scene() -> None:
        place = Away(tmp_path / "place")
        async with side(tmp_path, place) as one:
            await one.send(DATA)
        place.place.put("gw-1", NAME, Spool(tmp_path / SPOOL_NAME).path("gw-1", NAME), "")
        place.away = False
        async with side(tmp_path, place) as two:
            await two.stored(NAME)
            assert b"".join(place.place.get("gw-1", NAME)) == DATA

    asyncio.run(scene())


def test_a_spool_that_lost_a_verified_file_asks_its_node_again(tmp_path: Path) -> None:
    async def scene() -> None:
        place = Away(tmp_path / "place")
        async with side(tmp_path, place) as one:
            await one.send(DATA)
        Spool(tmp_path / SPOOL_NAME).remove("gw-1", NAME)
        place.away = False
        async with side(tmp_path, place) as two:
            await until(lambda: [row.state for row in two.rows()] == ["lost"])
            answer = await two.send(DATA)
            assert isinstance(answer, Held) and answer.complete
            await two.stored(NAME)

    asyncio.run(scene())


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    """An S3-compatible service; its port."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    yield server._server.server_port
    server.stop()


def bucket_settings(tmp_path: Path, port: int, name: str) -> EvidenceTable:
    for key in ("access", "secret"):
        (tmp_path / key).write_text(f"very-{key}-key")
    return EvidenceTable(
        backend=BackendKind.S3, s3_endpoint=f"127.0.0.1:{port}", s3_bucket=name, s3_region="us-east-1", s3_tls=False,
        s3_prefix="plant-7/", s3_access_key_file=tmp_path / "access", s3_secret_key_file=tmp_path / "secret",
    )  # fmt: skip


def test_a_bucket_takes_gives_and_forgets_files(tmp_path: Path, s3: int) -> None:
    from minio import Minio

    table = bucket_settings(tmp_path, s3, "evidence-a")

    async def scene() -> None:
        place = open_backend(table, tmp_path)
        async with side(tmp_path, place) as one:
            answer = await one.send(DATA, content_type="image/jpeg")  # the bucket is not there yet
            assert isinstance(answer, Held) and answer.complete
            await until(lambda: "NoSuchBucket" in one.receiver.problem)
            assert "very-" not in one.receiver.problem
            client = Minio(
                endpoint=table.s3_endpoint, access_key="very-access-key", secret_key="very-secret-key", secure=False,
                region="us-east-1",
            )  # fmt: skip
            client.make_bucket(bucket_name="evidence-a")
            await one.stored(NAME)
            key = f"plant-7/gw-1/{NAME[:2]}/{NAME}"
            assert client.stat_object(bucket_name="evidence-a", object_name=key).content_type == "image/jpeg"
            assert one.read(NAME) == DATA
            assert place.has("gw-1", NAME)
            place.delete("gw-1", NAME)
            place.delete("gw-1", NAME)
            assert not place.has("gw-1", NAME)
            with pytest.raises(BackendError, match="NoSuchKey"):
                one.read(NAME)

    asyncio.run(scene())


def test_a_bucket_nobody_answers_for_is_told_without_secrets(tmp_path: Path) -> None:
    place = open_backend(bucket_settings(tmp_path, 1, "evidence"), tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BackendError, match="is the endpoint reachable") as caught:
        place.put("gw-1", NAME, tmp_path / "file", "")
    assert "very-" not in str(caught.value)


def test_keys_that_are_missing_are_named(tmp_path: Path) -> None:
    table = bucket_settings(tmp_path, 1, "evidence")
    (tmp_path / "secret").unlink()
    with pytest.raises(ConfigError, match=r"s3_secret_key_file: .* cannot be read"):
        open_backend(table, tmp_path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            EvidenceTable(backend=BackendKind.S3),
            ["s3_endpoint", "s3_bucket", "s3_access_key_file", "s3_secret_key_file"],
        ),
        (
            EvidenceTable(
                backend=BackendKind.S3, s3_endpoint="x", s3_bucket="B", s3_access_key_env="A", s3_secret_key_env="B",
            ),
            ["s3_bucket: is no name of a bucket"],
        ),
        (EvidenceTable(blob_bytes_max=2**31, spool_bytes_max=2**30), ["blob_bytes_max"]),
        (
            EvidenceTable(
                backend=BackendKind.S3, s3_endpoint="http://x", s3_bucket="evidence", s3_access_key_env="A",
                s3_secret_key_env="B",
            ),
            ["s3_endpoint: is HOST or HOST:PORT"],
        ),
    ],
)  # fmt: skip
def test_impossible_settings_are_named(table: EvidenceTable, said: list[str]) -> None:
    found = table.mistakes()
    assert len(found) == len(said)
    assert all(text in mistake for text, mistake in zip(said, found, strict=True))


def test_a_whole_coordinator_with_a_bucket(tmp_path: Path, s3: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The process with its configuration file, and `edgectl` reading the same one; no key is in the log."""
    from minio import Minio

    for key in ("access", "secret"):
        (tmp_path / key).write_text(f"very-{key}-key\n")
    Minio(endpoint=f"127.0.0.1:{s3}", access_key="a", secret_key="b", secure=False, region="us-east-1").make_bucket(
        bucket_name="evidence-b"
    )
    settings = f"""[evidence]
free_bytes_min = 0
backend = "s3"
s3_endpoint = "127.0.0.1:{s3}"
s3_bucket = "evidence-b"
s3_region = "us-east-1"
s3_tls = false
s3_access_key_file = "access"
s3_secret_key_file = "secret"
"""

    async def scene(port: int) -> Process:
        coordinator = Process(tmp_path, port, settings)
        coordinator.start()
        await coordinator.connected()
        try:
            async with TestNode(port) as node:
                for message in (Offer(len(DATA), "image/jpeg"), Chunk(0, DATA)):
                    node.publish(f"blob/up/{NAME}", encode_blob(message))
                await until(lambda: coordinator.query("SELECT state FROM evidence") == [("stored",)])
        finally:
            coordinator.stop()
        return coordinator

    with broker(tmp_path) as between:
        coordinator = asyncio.run(scene(between.port))
    out = tmp_path / "out.jpg"
    assert edgectl_main(["--config", str(coordinator.config), "evidence", "get", NAME, "-o", str(out)]) == 0
    assert "hash verified" in capsys.readouterr().out
    assert out.read_bytes() == DATA
    assert not list((tmp_path / "data" / "evidence-spool").rglob("*.part"))
    assert "very-" not in coordinator.log.read_text()
