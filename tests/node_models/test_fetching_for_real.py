"""Releases onto a disk: a real HTTP server that fails in every way, a cache that is killed, spoilt and full."""

import asyncio
import base64
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.models.cache import Cache
from agent.models.fetch import Fetcher
from agent.models.http import HttpSource
from agent.models.job import Job, State
from agent.models.records import Ref
from agent.models.settings import NodeModelsTable
from agent.models.signatures import Trust, read_trust
from agent.models.sources import Source
from coordinator.models.folder import FolderRelease
from runtime.errors import ConfigError
from schemas.choosing import Facts
from tests.models.making import found, model_bytes
from tests.node_models.faulty import Faulty

SIZE = 300_000
FAST = NodeModelsTable(
    spread_s=0.0, retry_first_s=0.05, retry_max_s=0.1, stall_s=1.0, patience_s=600.0, free_bytes_min=0
)
WAIT_S = 60.0


@pytest.fixture
def shop() -> Iterator[Faulty]:
    with Faulty().open() as opened:
        yield opened


@pytest.fixture
def made(tmp_path: Path, shop: Faulty) -> FolderRelease:
    one = found(tmp_path / "bundle", data=model_bytes(SIZE))
    shop.add(one)
    return one


def ref_of(made: FolderRelease) -> Ref:
    return Ref(made.release.reference, made.digest)


NODES: "list[Node]" = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while NODES:
        NODES.pop().runner.close()


class Node:
    """A fetcher with its cache, and what it told."""

    def __init__(
        self,
        folder: Path,
        urls: Sequence[str],
        table: NodeModelsTable = FAST,
        trust: Trust | None = None,
        keep: Callable[[], Sequence[str]] = list,
    ) -> None:
        self.runner = asyncio.Runner()
        NODES.append(self)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[tuple[State, str]] = []
        self.cache = Cache(folder)
        self.fetcher = Fetcher(
            table, self.cache, trust or Trust({}), facts=self._facts, keep=keep,
            announce=lambda kind, subject, data: self.events.append((kind, data)),
        )  # fmt: skip
        over_http: list[Source] = [HttpSource(url, stall_s=table.stall_s, pause=self.fetcher.pause) for url in urls]
        self.fetcher.serve_from(over_http)

    @staticmethod
    def _facts() -> Facts:
        return {"hardware.arch": "x86_64"}

    async def until(self, ref: Ref, state: State, said: str = "") -> Job:
        """Wants it, and waits for that."""
        self.fetcher.want([ref])
        job = self.fetcher.job(ref.digest)
        assert job is not None
        changed = asyncio.Event()

        def on_change() -> None:
            self.texts.append((job.state, job.text))
            changed.set()

        self.fetcher.on_change = on_change
        task = asyncio.create_task(self.fetcher.run())
        try:
            async with asyncio.timeout(WAIT_S):
                while job.state is not state or said not in job.text:
                    changed.clear()
                    await changed.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return job


def held(node: Node, made: FolderRelease) -> None:
    """All that this node needs is here, as it was made."""
    node.runner.run(node.until(ref_of(made), State.HELD))
    folder = node.cache.bundle(made.digest)
    assert folder is not None
    for file in made.release.files:
        if (folder / file.path).exists():
            assert (folder / file.path).read_bytes() == (made.folder / file.path).read_bytes()
    assert (folder / "m.tflite").stat().st_size == SIZE
    assert node.cache.damaged(made.digest) == []


# ---- faults ------------------------------------------------------------------------------------

FAULTS = st.lists(
    st.one_of(
        st.integers(0, SIZE).map(lambda n: f"cut:{n}"),
        st.sampled_from(["whole", "wrong", "short", "busy", "missing", "elsewhere"]),
    ),
    max_size=6,
)


@given(FAULTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_source_does_in_the_end_all_is_here_and_right(
    tmp_path: Path, shop: Faulty, made: FolderRelease, faults: list[str]
) -> None:
    shop.faults = list(faults)
    folder = tmp_path / str(random.random())
    held(Node(folder, [shop.url]), made)
    assert not list(folder.glob("parts/*"))


def test_what_was_cut_goes_on_where_it_was(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    node = Node(tmp_path / "n", [shop.url])
    shop.faults = ["", "", "", "cut:100000", "cut:100000"]  # the small files come first
    held(node, made)
    model = next(f"/blobs/{file.sha256}" for file in made.release.files if file.path == "m.tflite")
    ranges = [range_ for path, range_ in shop.asked if path == model]
    assert ranges[0] == "" and all(range_.startswith("bytes=") for range_ in ranges[1:])
    ((kind, data),) = node.events
    assert (kind, data["via"], data["digest"]) == ("ModelPrefetched", "http", made.digest)
    assert data["bytes"] == sum(f.bytes for f in made.release.files)


def test_a_source_that_stalls_is_left_for_the_next(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    with Faulty(dict(shop.files), ["stall"]).open() as slow:
        held(Node(tmp_path / "n", [slow.url, shop.url]), made)


def test_a_dead_source_and_one_that_lies_do_not_stand_in_the_way(
    tmp_path: Path, shop: Faulty, made: FolderRelease
) -> None:
    with Faulty(dict(shop.files), ["wrong"] * 20).open() as liar:
        held(Node(tmp_path / "n", ["http://127.0.0.1:9", liar.url, shop.url]), made)


def test_what_is_on_the_disk_is_not_asked_for_again(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    held(Node(tmp_path / "n", [shop.url]), made)
    asked = len(shop.asked)
    again = Node(tmp_path / "n", [shop.url])
    held(again, made)
    assert len(shop.asked) == asked and again.events == []
    (made.folder / "bundle.toml").write_text((made.folder / "bundle.toml").read_text() + "# more\n")
    other = found(tmp_path / "other", data=model_bytes(SIZE), version="1.1.0")
    shop.add(other)
    held(again, other)
    model = next(f"/blobs/{file.sha256}" for file in other.release.files if file.path == "m.tflite")
    assert [path for path, _ in shop.asked].count(model) == 1


def test_a_part_that_a_power_cut_spoilt_is_fetched_anew(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    node = Node(tmp_path / "n", [shop.url])
    model = next(file.sha256 for file in made.release.files if file.path == "m.tflite")
    part = node.cache.part(model)
    part.append(b"\0" * 1000)
    part.close()
    held(node, made)
    assert [range_ for path, range_ in shop.asked if path.endswith(model)] == ["bytes=1000-", ""]


def test_the_rate_is_kept(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    node = Node(tmp_path / "n", [shop.url], replace(FAST, bytes_s_max=200_000))
    started_s = time.monotonic()
    held(node, made)
    assert time.monotonic() - started_s >= 0.2  # 300 KB, of which the bucket has the first 256 KiB


# ---- what is refused ---------------------------------------------------------------------------


def refused(node: Node, ref: Ref, said: str) -> Job:
    return node.runner.run(node.until(ref, State.REFUSED, said))


def test_another_digest_than_the_one_wanted(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    said = f"nobody serves it: {shop.url}: its finder@1.0.0 has the digest {made.digest}"
    job = refused(Node(tmp_path / "n", [shop.url]), Ref("finder@1.0.0", "ab" * 32), said)
    assert not job.final  # the right one may come yet


def test_a_digest_under_another_name(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    shop.files["/models/finder/2.0.0"] = made.document
    job = refused(Node(tmp_path / "n", [shop.url]), Ref("finder@2.0.0", made.digest), "is that of finder@1.0.0")
    assert job.final


def test_a_model_that_nothing_here_can_run(tmp_path: Path, shop: Faulty) -> None:
    made = found(tmp_path / "b", more="[variants.requires]\narch = ['arm64']")
    shop.add(made)
    job = refused(Node(tmp_path / "n", [shop.url]), ref_of(made), "it is for arm64, and the node is x86_64")
    assert job.final and [path for path, _ in shop.asked] == ["/models/finder/1.0.0"]


def test_nobody_serves_it_and_then_somebody_does(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    files, shop.files = shop.files, {}
    node = Node(tmp_path / "n", [shop.url])
    refused(node, ref_of(made), "nobody serves it")
    shop.files = files
    held(node, made)


def test_without_any_source(tmp_path: Path, made: FolderRelease) -> None:
    refused(Node(tmp_path / "n", []), ref_of(made), "set models.sources")


def test_no_room_on_the_disk_or_in_the_cache(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    full = replace(FAST, free_bytes_min=2**49)
    refused(Node(tmp_path / "n", [shop.url], full), ref_of(made), "stay free")
    large = found(tmp_path / "large", data=model_bytes(2**20), version="2.0.0")
    shop.add(large)
    node = Node(tmp_path / "m", [shop.url], replace(FAST, bytes_max=2**20), keep=lambda: [large.digest])
    refused(node, ref_of(large), "than models.bytes_max, 1048576, allows")
    assert not list((tmp_path / "m").glob("blobs/*/*"))


def test_what_was_used_longest_ago_leaves_for_what_is_wanted(tmp_path: Path, shop: Faulty) -> None:
    releases = [found(tmp_path / f"b{n}", data=model_bytes(SIZE, seed=n), version=f"{n}.0.0") for n in range(1, 5)]
    node = Node(tmp_path / "n", [shop.url], replace(FAST, bytes_max=2**20), keep=lambda: [releases[0].digest])
    for n, made in enumerate(releases):
        shop.add(made)
        held(node, made)
        os.utime(tmp_path / "n" / "releases" / f"{made.digest}.json", (1000 + n, 1000 + n))
    assert {one.reference for one in node.cache.releases()} == {"finder@1.0.0", "finder@3.0.0", "finder@4.0.0"}
    named = {sha256 for one in node.cache.releases() for sha256 in one.sizes}
    assert {path.name for path in (tmp_path / "n").glob("blobs/*/*")} == named


# ---- signatures --------------------------------------------------------------------------------

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()


def signed(digest: str, name: str = "plant") -> str:
    return f"{name} {base64.b64encode(KEY.sign(bytes.fromhex(digest))).decode()}"


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("", "it is not signed"),
        (signed("00" * 32), "is not one of the key 'plant' for these bytes"),
        ("other", "is wanted as `KEY BASE64`"),
        ("stranger", "the key 'stranger', which is not among models.trusted_keys"),
    ],
    ids=["none", "other bytes", "no signature", "other key"],
)
def test_a_release_that_nobody_trusted_has_signed(
    tmp_path: Path, shop: Faulty, made: FolderRelease, signature: str, said: str
) -> None:
    shop.add(made, signed(made.digest, "stranger") if signature == "stranger" else signature)
    node = Node(tmp_path / "n", [shop.url], trust=read_trust({"plant": PUBLIC}))
    refused(node, ref_of(made), said)
    assert not any(path.startswith("/blobs/") for path, _ in shop.asked)
    shop.add(made, signed(made.digest))
    held(node, made)
    assert node.cache.signature(made.digest) == signed(made.digest)


def test_a_key_that_came_later_counts_for_what_is_here(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    held(Node(tmp_path / "n", [shop.url]), made)
    node = Node(tmp_path / "n", [shop.url], trust=read_trust({"plant": PUBLIC}))
    refused(node, ref_of(made), "it is not signed")


def test_keys_are_read_with_all_mistakes_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.pub").write_text("no key")
    assert read_trust({"plant": PUBLIC}).asks and not read_trust({}).asks
    with pytest.raises(ConfigError) as wrong:
        read_trust({"a": str(tmp_path / "bad.pub"), "b": str(tmp_path / "nowhere")})
    assert "models.trusted_keys.a: " in str(wrong.value) and "models.trusted_keys.b: " in str(wrong.value)


# ---- the disk ----------------------------------------------------------------------------------


def test_a_release_without_its_document_is_none(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    node = Node(tmp_path / "n", [shop.url])
    held(node, made)
    (tmp_path / "n" / "releases" / f"{made.digest}.json").unlink()  # as a kill before it leaves it
    assert node.cache.bundle(made.digest) is None and node.cache.releases() == []
    asked = len(shop.asked)
    held(Node(tmp_path / "n", [shop.url]), made)
    assert [path for path, _ in shop.asked[asked:]] == ["/models/finder/1.0.0"]  # the files were there


def test_a_sweep_leaves_what_releases_have(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    node = Node(tmp_path / "n", [shop.url])
    held(node, made)
    part = node.cache.part("cd" * 32)
    part.append(b"x" * 100)
    part.close()
    assert (node.cache.sweep(["cd" * 32]), node.cache.sweep()) == (0, 100)
    assert node.cache.damaged(made.digest) == []
    node.cache.drop(made.digest)
    assert node.cache.sweep() == sum(file.bytes for file in made.release.files)


def test_nothing_is_fetched_while_the_link_is_metered(tmp_path: Path, shop: Faulty, made: FolderRelease) -> None:
    node = Node(tmp_path / "n", [shop.url])
    metered = ["the link is metered"]
    node.fetcher._held_back = lambda: metered[0]
    node.runner.run(node.until(ref_of(made), State.PENDING, "waiting: the link is metered"))
    assert shop.asked == []
