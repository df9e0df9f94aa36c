"""Files that import files: names across them, circles, what cannot be read, each error once."""

from pathlib import Path

import pytest

from schemas.language.limits import FILE_BYTES_MAX, IMPORTS_MAX
from schemas.language.load import load
from schemas.language.problems import SchemaError


def write(folder: Path, **files: str) -> Path:
    """The first of the files."""
    for name, text in files.items():
        (folder / f"{name}.edge").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.edge"


def messages(path: Path) -> list[str]:
    with pytest.raises(SchemaError) as caught:
        load(path)
    return [f"{Path(one.file).name}:{one.place.line}: {one.message}" for one in caught.value.problems]


def test_names_come_from_imports(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        a='import b\nimport "sub/c.edge"\nrecord A { b: B, c: C, level: Level = high, small: Share = 0.5 }',
        b='record B { c: String }\nenum Level { low, high = "HIGH" }',
    )
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", c="type Share = Float @range(0..1)\nrecord C { share: Share }")
    loaded = load(path)
    assert {*loaded.schema.types} == {"A", "B", "C", "Level", "Share"}
    assert loaded.schema.types["A"].fields[2].default == "HIGH"  # type: ignore[union-attr]
    assert loaded.warnings == ()


def test_files_in_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path, a="import b", b="import c", c="import a")
    assert messages(path) == ["c.edge:1: files import each other in a circle: a.edge → b.edge → c.edge → a.edge"]
    assert messages(write(tmp_path, d="import d")) == [
        "d.edge:1: files import each other in a circle: d.edge → d.edge"
    ]


def test_what_is_wrong_in_an_imported_file_is_told_once(tmp_path: Path) -> None:
    """Layers of files that all import the next two: told once, and read once."""
    files = {"a0": "import b0\nimport c0"}
    for i in range(20):
        files |= {f"b{i}": f"import b{i + 1}\nimport c{i + 1}", f"c{i}": f"import b{i + 1}\nimport c{i + 1}"}
    path = write(tmp_path, **files, b20="record B { x: Nowhere }", c20="record C {}")
    assert messages(path) == ["b20.edge:1: there is no type Nowhere"]


def test_errors_of_the_file_itself_are_told_beside_those_of_its_imports(tmp_path: Path) -> None:
    path = write(tmp_path, a="import b\nrecord A { x: From_B, x: String }", b="record From_B { y: Nowhere }")
    assert messages(path) == ["b.edge:1: there is no type Nowhere", "a.edge:2: x is there twice"]


def test_a_name_of_two_imports_is_told_where_the_second_is_imported(tmp_path: Path) -> None:
    path = write(tmp_path, a="import b\nimport c\nrecord A { t: T }", b="record T {}", c="enum T { t }")
    assert messages(path) == ["a.edge:2: T is declared in b and in c"]


def test_unused_imports_and_types_are_warned_of(tmp_path: Path) -> None:
    text = """import b
import c
record Used { t: From_B }
record Unused {}
record A_Settings {}
edge_computing P { platform_name: "p" functions: [f(a: Used)] }"""
    loaded = load(write(tmp_path, a=text, b="record From_B {}", c="record From_C {}"))
    assert [(one.place.line, one.message) for one in loaded.warnings] == [
        (2, "nothing of c is used"),
        (4, "no message holds a Unused"),
    ]


def test_types_of_a_file_that_imports_nothing_may_be_there_for_others(tmp_path: Path) -> None:
    text = 'record For_Others {}\nedge_computing P { platform_name: "p" }'
    assert load(write(tmp_path, a=text)).warnings == ()


def test_an_event_of_an_imported_platform_is_listed_as_it_is_there(tmp_path: Path) -> None:
    base = 'record R {}\nedge_computing B { platform_name: "b" functions: [f(a: R) @cloud]'
    base += " events: [E(r: R) @source(node)] }"
    path = write(
        tmp_path, a='import b\nedge_computing P { platform_name: "p" events: [E(r: R), F() @source(f)] }', b=base
    )
    assert load(path).schema.events["F"].placement == "cloud", "a function of another platform says where"
    write(tmp_path, a='import b\nedge_computing P { platform_name: "p" events: [E(r: String)] functions: [f()] }')
    assert messages(path) == ["a.edge:2: E is another event in b", "a.edge:2: f is another function in b"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.edge").write_bytes(b"// \xe9 x")
    assert messages(tmp_path / "latin.edge") == ["latin.edge:1: is no UTF-8: invalid continuation byte at byte 3"]
    assert messages(tmp_path / "absent.edge") == ["absent.edge:1: cannot be read: No such file or directory"]
    (tmp_path / "large.edge").write_bytes(b" " * (FILE_BYTES_MAX + 1))
    assert messages(tmp_path / "large.edge") == [f"large.edge:1: the file has more than {FILE_BYTES_MAX} bytes"]
    long = write(tmp_path, a=f'import "{"x" * 5000}.edge"')
    assert len(messages(long)[0]) < 300


def test_so_many_files_at_most(tmp_path: Path) -> None:
    files = {f"a{i}": f"import a{i + 1}" for i in range(IMPORTS_MAX + 5)}
    found = messages(write(tmp_path, **files, **{f"a{IMPORTS_MAX + 5}": ""}))
    assert found == [f"a{IMPORTS_MAX}.edge:1: more than {IMPORTS_MAX} files are imported"]
