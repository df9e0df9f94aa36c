"""Schemas that are kept on disk: the same as if they were parsed, whatever has become of the files."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.language import cache, packing
from schemas.language import schema as schema_module
from schemas.language.cache import VARIABLE, Read, cache_folder, load_schema
from schemas.language.load import Loader, load
from schemas.language.packing import pack, unpack
from schemas.language.problems import SchemaError
from schemas.language.schema import Field, Kind, Scalar, Schema
from tests.language.samples import HARBOUR, HOSTILE, ROOT, SHIPPED, find

USER = "import beside\nimport far\nrecord R { b: Beside, f: Far }\nrecord Unused {}\n"
USER += 'edge_computing P { platform_name: "p" functions: [f(r: R)] }'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where schemas are kept; it is not there yet."""
    path = tmp_path / "cache"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were parsed because nothing was kept that holds."""
    found = []
    whole = Loader.load

    def counted(self: Loader, path: Path) -> Any:
        found.append(path)
        return whole(self, path)

    monkeypatch.setattr(Loader, "load", counted)
    return found


def without_cache(path: Path, find: Callable[[str], Path | None] = lambda name: None) -> Read:
    loaded = load(path, find)
    return Read(loaded.schema, loaded.warnings)


def same(one: Read, other: Read) -> bool:
    """Places included, which schemas do not compare."""
    return one == other and repr(one) == repr(other)


def user(tmp_path: Path) -> tuple[Path, Path, Callable[[str], Path | None]]:
    """A schema with a warning that imports a file beside it, and one that is found by name and imports another."""
    here, there = tmp_path / "here", tmp_path / "there"
    for path in (here, there):
        path.mkdir()
    (here / "user.edge").write_text(USER)
    (here / "beside.edge").write_text("type Beside = Integer @range(0..9)")
    (there / "far.edge").write_text('import "../there/deep.edge"\nrecord Far { d: Deep }')
    (there / "deep.edge").write_text("enum Deep { one, two }")
    return here / "user.edge", there, lambda name: path if (path := there / f"{name}.edge").is_file() else None


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


# ---- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*SHIPPED, HARBOUR, HOSTILE], ids=lambda path: path.stem)
def test_what_is_kept_is_what_was_parsed(path: Path, folder: Path, parsed: list[Path]) -> None:
    wanted = without_cache(path, find)
    parsed.clear()
    assert same(load_schema(path, find), wanted)
    assert parsed
    parsed.clear()
    assert same(load_schema(path, find), wanted)
    assert parsed == []


def test_a_process_that_finds_all_it_needs_has_no_parser(folder: Path) -> None:
    program = "import sys; from platforms.loading import load_platforms; load_platforms(['traffic'])\n"
    program += "print([one for one in ('lark', 'schemas.language.parse') if one in sys.modules])"
    for said in ("['lark', 'schemas.language.parse']", "[]"):
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said


def test_warnings_are_kept_and_name_the_file_that_was_asked_for(tmp_path: Path, folder: Path) -> None:
    path, _, find_it = user(tmp_path)
    (warning,) = load_schema(path, find_it).warnings
    assert load_schema(path, find_it).warnings == (warning,)
    assert (warning.file, warning.message) == (str(path), "no message holds a Unused")
    copy = path.with_name("copy.edge")
    copy.write_text(USER)
    assert load_schema(copy, find_it).warnings[0].file == str(copy)


def test_a_schema_with_errors_is_told_each_time_and_not_kept(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "wrong.edge"
    path.write_text("record A { x: Nowhere, y: Nobody }")
    for _ in range(2):
        with pytest.raises(SchemaError) as told:
            load_schema(path)
        assert [problem.message for problem in told.value.problems] == [
            "there is no type Nowhere",
            "there is no type Nobody",
        ]
    assert not folder.exists()


# ---- what no longer holds ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["here/user.edge", "here/beside.edge", "there/far.edge", "there/deep.edge"])
def test_an_edit_of_any_file_is_seen(name: str, tmp_path: Path, folder: Path) -> None:
    path, _, find_it = user(tmp_path)
    load_schema(path, find_it)
    edited = tmp_path / name
    about = edited.stat()
    text = edited.read_text()
    edited.write_text(
        text.replace("0..9", "0..8").replace("two", "too").replace("Unused", "Unwant").replace("d:", "e:")
    )
    os.utime(edited, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert edited.stat().st_size == about.st_size, "neither size nor time tells"
    read = load_schema(path, find_it)
    assert same(read, without_cache(path, find_it))
    edited.write_text(text)
    assert not same(read, load_schema(path, find_it))


def test_an_import_that_means_another_file_now_is_seen(tmp_path: Path, folder: Path) -> None:
    path, there, find_it = user(tmp_path)
    load_schema(path, find_it)
    other = tmp_path / "far.edge"
    other.write_text("type Far = Float")

    def find_other(name: str) -> Path | None:
        return other if name == "far" else find_it(name)

    assert same(load_schema(path, find_other), without_cache(path, find_other))
    path.with_name("far.edge").write_text("type Far = String")
    read = load_schema(path, find_it)
    assert same(read, without_cache(path, find_it)), "what lies beside the file comes first"
    path.with_name("far.edge").unlink()
    (there / "far.edge").unlink()
    with pytest.raises(SchemaError, match="there is no platform far"):
        load_schema(path, find_it)


def test_a_link_that_leads_elsewhere_is_seen(tmp_path: Path, folder: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.edge").write_text(f"record {name.title()} {{}}")
    link = tmp_path / "link.edge"
    for name in ("one", "two", "one"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name / "a.edge")
        assert same(load_schema(link), without_cache(link))


def test_another_program_finds_nothing(folder: Path, parsed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    load_schema(HARBOUR)
    parsed.clear()
    monkeypatch.setattr(cache, "_program", lambda: "an edited parser")
    load_schema(HARBOUR)
    assert parsed
    assert len(entries(folder)) == 2


# ---- what goes wrong -----------------------------------------------------------------------------


@given(data=st.data())
def test_damage_anywhere_is_noticed(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        folder = Path(scratch, "cache")
        patch.setenv(VARIABLE, str(folder))
        path, _, find_it = user(Path(scratch))
        wanted = load_schema(path, find_it)
        (entry,) = entries(folder)
        content = bytearray(entry.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1), label="at")
        match data.draw(st.sampled_from(["flip", "cut", "more", "hole"]), label="damage"):
            case "flip":
                content[at] ^= data.draw(st.integers(1, 255), label="bits")
            case "cut":
                del content[at:]
            case "more":
                content[at:at] = data.draw(st.binary(min_size=1), label="more")
            case "hole":
                content[at:] = bytes(len(content) - at)
        entry.write_bytes(content)
        assert same(load_schema(path, find_it), wanted)
        assert entry.read_bytes() != content, "it is written anew"


@pytest.mark.parametrize(
    "made", [[], {}, [1, 2, 3, 4], [[], [], [99], [0]], [[], [], [2, 3], [0]], [["x"], [], 0, 0]]
)
def test_an_entry_of_another_form_is_parsed_anew(made: Any, folder: Path) -> None:
    wanted = load_schema(HARBOUR)
    (entry,) = entries(folder)
    rest = json.dumps(made).encode()
    entry.write_bytes(cache._digest(rest).encode() + b"\n" + rest)
    assert same(load_schema(HARBOUR), wanted)


def test_processes_at_once_agree(tmp_path: Path, folder: Path) -> None:
    path, _, _ = user(tmp_path)
    (path.parent / "far.edge").write_text("record Far {}")
    program = "import sys; from pathlib import Path; from schemas.language.cache import load_schema\n"
    program += "sys.stdin.readline(); print([load_schema(Path(sys.argv[1])) for _ in range(20)][-1])"
    command = [sys.executable, "-c", program, str(path)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for one in started:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    assert {one.communicate()[0] for one in started} == {f"{without_cache(path)}\n"}
    assert len(entries(folder)) == 1


def test_a_disk_without_room_leaves_nothing_behind(folder: Path) -> None:
    program = "import resource, sys; from platforms.catalogue import open_catalogue\n"
    program += "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); open_catalogue()"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    assert entries(folder) == []


@pytest.mark.parametrize("place", ["a file", "beneath a file", "a circle", "too long"])
def test_a_place_that_is_no_folder_does_no_harm(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    names = {"a file": "file", "beneath a file": "file/folder", "a circle": "circle/folder", "too long": "n" * 300}
    monkeypatch.setenv(VARIABLE, str(tmp_path / names[place]))
    assert same(load_schema(HARBOUR), without_cache(HARBOUR))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_cannot_be_written_to_does_no_harm(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    assert same(load_schema(HARBOUR), without_cache(HARBOUR))
    assert entries(folder) == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(mode: int, folder: Path, parsed: list[Path]) -> None:
    load_schema(HARBOUR)
    (entry,) = entries(folder)
    folder.chmod(mode)
    parsed.clear()
    load_schema(HARBOUR)
    assert parsed
    entry.unlink()
    load_schema(HARBOUR)
    assert entries(folder) == []
    folder.chmod(0o755)
    load_schema(HARBOUR)
    assert entries(folder) == [entry]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_not_used(folder: Path, parsed: list[Path]) -> None:
    load_schema(HARBOUR)
    (entry,) = entries(folder)
    os.chown(folder, 12345, 12345)
    parsed.clear()
    load_schema(HARBOUR)
    assert parsed
    entry.unlink()
    load_schema(HARBOUR)
    assert entries(folder) == []


# ---- limits, and where it lies -------------------------------------------------------------------


def test_the_oldest_entries_go(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ENTRIES_MAX", 3)
    folder.mkdir(mode=0o700)
    (folder / "mine.json").write_text("of somebody who gave us a folder of his own")
    left = folder / f"schema-{'0' * 32}.123-456"
    left.write_text("half written by a process that was killed")
    os.utime(left, (0, 0))
    written: list[Path] = []
    for number in range(6):
        path = tmp_path / f"s{number}.edge"
        path.write_text(f"record R{number} {{}}")
        load_schema(path)
        (new,) = {*entries(folder)} - {*written, folder / "mine.json", left}
        os.utime(new, (number + 1, number + 1))
        written.append(new)
    assert entries(folder) == sorted([*written[-3:], folder / "mine.json"])


def test_so_many_bytes_at_most(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(number: int) -> int:
        path = tmp_path / f"s{number}.edge"
        path.write_text(f"record R{number} {{}}")
        load_schema(path)
        return len(entries(folder))

    assert kept(0) == 1
    size = entries(folder)[0].stat().st_size
    monkeypatch.setattr(cache, "BYTES_MAX", size * 5 // 2)
    assert [kept(number) for number in range(1, 5)] == [2, 2, 2, 2]
    monkeypatch.setattr(cache, "ENTRY_BYTES_MAX", size // 2)
    before = entries(folder)
    kept(9)
    assert entries(folder) == before, "one that is too large is not kept"


def test_the_folder_is_for_its_user_alone(folder: Path) -> None:
    load_schema(HARBOUR)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({VARIABLE: "/x", "CACHE_DIRECTORY": "/y", "HOME": "/h"}, "/x"),
        ({VARIABLE: "", "CACHE_DIRECTORY": "/y", "HOME": "/h"}, None),
        ({"CACHE_DIRECTORY": "/var/cache/a:/var/cache/b", "XDG_CACHE_HOME": "/z"}, "/var/cache/a"),
        ({"XDG_CACHE_HOME": "/z", "HOME": "/h"}, "/z/edgewright"),
        ({"XDG_CACHE_HOME": "no/path", "HOME": "/h"}, "/h/.cache/edgewright"),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_where_it_lies(environ: dict[str, str], place: str | None) -> None:
    assert cache_folder(environ) == (None if place is None else Path(place))


def test_nothing_is_kept_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch, parsed: list[Path]) -> None:
    monkeypatch.setenv(VARIABLE, "")
    wanted = without_cache(HARBOUR)
    for _ in range(2):
        parsed.clear()
        assert same(load_schema(HARBOUR), wanted)
        assert parsed


# ---- as plain data -------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.lists(st.text()).map(tuple))
def test_any_default_comes_back(default: Any, groups: tuple[str, ...]) -> None:
    schema = Schema("s", types={}, node_types=groups, groups={"g": groups})
    for value in (Field("f", Scalar(Kind.JSON), False, default), schema, default):
        back = unpack(json.loads(json.dumps(pack(value))))
        assert repr(back) == repr(value)


def test_all_that_a_schema_is_made_of_is_known() -> None:
    made = [one for one in vars(schema_module).values() if isinstance(one, type)]
    made = [one for one in made if is_dataclass(one) or (issubclass(one, Enum) and one.__module__ != "enum")]
    assert {one.__name__ for one in made} <= {one.__name__ for one in packing._MADE}


@pytest.mark.parametrize("value", [{1: "a key of JSON is a text"}, {1}, b"", Path(), lambda: 0])
def test_what_is_no_part_of_a_schema_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is no part of a schema"):
        pack((value,))
