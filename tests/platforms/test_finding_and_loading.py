"""Platforms by name: shipped, installed, in folders; and everything that can be wrong with one, told as it is."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from platforms.errors import BrokenPlatformError, ConflictError, NoSuchPlatformError, PlatformError, SeveralError
from platforms.finding import Finder, Kind, Origin, find_schema, folder_names
from platforms.loading import conflicts, load_platform, load_platforms
from schemas.language.load import load

SCHEMA = """
record Loaf {{ weight_g: Float @unit("g") }}
edge_computing {block} {{
  platform_name: "test"
  functions: [ {functions} ]
}}
"""
WEIGH = "weigh(loaf: Loaf, times: Integer = 1): Float @any"
FUNCTIONS = """
from dataclasses import dataclass
from platforms.functions import at_start, function
from {name}.sums import times_of

@dataclass(frozen=True)
class Loaf:
    weight_g: float

@function("weigh")
def weigh(loaf: Loaf, times: int = 1) -> float:
    return times_of(loaf.weight_g, times)

@at_start
async def begin(context: object) -> None: ...
"""
SUMS = "def times_of(value: float, times: int) -> float:\n    return value * times\n"


@pytest.fixture(autouse=True)
def clean_modules() -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0].startswith("plat_"):
            del sys.modules[name]
    sys.path[:] = path


def make(
    folder: Path, name: str, *, functions: str = WEIGH, python: str | None = FUNCTIONS, begin: bool = True
) -> Path:
    """A platform's package in `folder`."""
    package = folder / name
    package.mkdir(parents=True)
    (package / f"{name}.edge").write_text(SCHEMA.format(block=f"{name}_Edge", functions=functions))
    if begin:
        (package / "__init__.py").touch()
    if python is not None:
        (package / "functions.py").write_text(python.replace("{name}", name))
        (package / "sums.py").write_text(SUMS)
    return package


def install(site: Path, name: str, value: str, distribution: str = "") -> None:
    """What an installer writes of an entry point."""
    info = site / f"{distribution or name}_dist-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[edgewright.platforms]\n{name} = {value}\n")


@pytest.mark.parametrize("begin", [True, False], ids=["package", "no __init__"])
def test_a_platform_in_a_folder_is_loaded_under_its_name(tmp_path: Path, begin: bool) -> None:
    name = f"plat_folder_{begin}".lower()
    folder = make(tmp_path, name, begin=begin)
    path = list(sys.path)
    platform = load_platform(name, Finder([folder]))
    assert platform.schema.platform == f"{name}_Edge"
    assert list(platform.bindings) == ["weigh"]
    assert [hook.__name__ for hook in platform.hooks] == ["begin"]
    assert platform.origin == Origin(name, Kind.FOLDER, folder, name)
    assert platform.bindings["weigh"].run.__module__ == f"{name}.functions"
    assert sys.path == path
    assert load_platform(name, Finder([folder])).bindings == platform.bindings  # once more is the same


def test_the_folder_around_the_package_will_do(tmp_path: Path) -> None:
    make(tmp_path / "plat_around", "plat_around")
    found = Finder([tmp_path / "plat_around"]).find("plat_around")
    assert found.folder == tmp_path / "plat_around" / "plat_around"


def test_a_platform_without_functions_binds_nothing(tmp_path: Path) -> None:
    platform = load_platform("plat_bare", Finder([make(tmp_path, "plat_bare", python=None)]))
    assert platform.bindings == {}
    assert platform.unbound == ["weigh"]


def test_an_installed_platform_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, "plat_installed")
    install(tmp_path, "plat_installed", "plat_installed")
    monkeypatch.syspath_prepend(tmp_path)
    found = Finder().find("plat_installed")
    assert found == Origin("plat_installed", Kind.INSTALLED, folder, "plat_installed")
    assert load_platform("plat_installed", Finder()).bindings["weigh"].run.__module__ == "plat_installed.functions"
    assert find_schema("plat_installed") == folder / "plat_installed.edge"
    assert found in Finder().all()
    # The same folder under both ways is one platform.
    assert Finder([folder]).find("plat_installed").kind is Kind.INSTALLED


def test_an_installed_platform_may_lie_deep_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plat_acme").mkdir()
    (tmp_path / "plat_acme" / "__init__.py").touch()
    make(tmp_path / "plat_acme", "deep", python=FUNCTIONS.replace("{name}", "plat_acme.{name}"))
    install(tmp_path, "deep", "plat_acme.deep")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_platform("deep", Finder()).origin.package == "plat_acme.deep"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("plat_no_package", "leads to no package"),
        ("plat_no.package", "leads to no package"),
        ("plat_empty", "which has no plat_entry.edge; list .*.edge in the package-data"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    (tmp_path / "plat_empty").mkdir()
    (tmp_path / "plat_empty" / "__init__.py").touch()
    install(tmp_path, "plat_entry", value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BrokenPlatformError, match=said):
        Finder().find("plat_entry")
    assert any(isinstance(one, BrokenPlatformError) for one in Finder().all())
    assert find_schema("plat_entry") is None


def test_imports_by_name_reach_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "a", "plat_base", python=None)
    make(tmp_path / "b", "plat_base_too", python=None)
    install(tmp_path / "b", "plat_base_too", "plat_base_too")
    monkeypatch.syspath_prepend(tmp_path / "b")
    user = tmp_path / "user.edge"
    user.write_text("import plat_base\nrecord Shelf { loaves: Loaf[] }\n")
    assert load(user, Finder([folder]).schema).schema.types["Loaf"].name == "Loaf"
    user.write_text("import plat_base_too\nrecord Shelf { loaves: Loaf[] }\n")
    assert load(user, find_schema).schema.types["Loaf"].name == "Loaf"


def test_an_unknown_name_says_what_is_near(tmp_path: Path) -> None:
    finder = Finder([make(tmp_path, "plat_bakery")])
    with pytest.raises(NoSuchPlatformError) as raised:
        finder.find("plat_bakrey")
    assert "did you mean plat_bakery? there are" in str(raised.value)


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (
            "import plat_no_such_module\n",
            "functions.py:1: ModuleNotFoundError: No module named 'plat_no_such_module'",
        ),
        ("\n\n1 / 0\n", "functions.py:3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "functions.py:1: SyntaxError: "),
        ("from {name}.sums import nothing\n", "functions.py:1: ImportError: cannot import name 'nothing'"),
        (FUNCTIONS.replace("loaf: Loaf", "loaf: str"), "parameter `loaf` is str, and the schema declares Loaf"),
        (FUNCTIONS.replace('"weigh"', '"wiegh"'), "the schema declares no function wiegh; did you mean weigh?"),
        (FUNCTIONS.replace("async def begin", "def begin"), "what @at_start marks is `async def"),
    ],
    ids=["missing module", "raises", "syntax", "missing name", "annotation", "misspelled", "hook"],
)
def test_what_is_wrong_with_the_functions_is_told(tmp_path: Path, python: str, said: str) -> None:
    name = f"plat_wrong_{abs(hash(python))}"
    with pytest.raises(BrokenPlatformError) as raised:
        load_platform(name, Finder([make(tmp_path, name, python=python)]))
    assert said in str(raised.value)


def test_what_is_wrong_with_the_schema_is_told_as_the_language_does(tmp_path: Path) -> None:
    folder = make(tmp_path, "plat_schema", functions="weigh(loaf: Laof)")
    with pytest.raises(BrokenPlatformError) as raised:
        load_platform("plat_schema", Finder([folder]))
    said = str(raised.value)
    assert f"{folder}/plat_schema.edge:5:28: error: there is no type Laof" in said
    assert "did you mean Loaf?" in said


def test_two_platforms_of_one_name_are_told(tmp_path: Path) -> None:
    folders = [make(tmp_path / "a", "plat_twice"), make(tmp_path / "b", "plat_twice")]
    with pytest.raises(
        ConflictError, match=r"two platforms have the name plat_twice: folder in .*/a/.* and folder in"
    ):
        Finder(folders).find("plat_twice")


@pytest.mark.parametrize("name", ["json", "agent", "asyncio"])
def test_a_folder_named_as_another_package_of_python_is_refused(tmp_path: Path, name: str) -> None:
    before = sys.modules.get(name)
    with pytest.raises(ConflictError, match=f"Python has another {name} already"):
        load_platform(name, Finder([make(tmp_path, name)]))
    assert sys.modules.get(name) is before


def test_a_package_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = make(tmp_path, "plat_fails")
    (folder / "__init__.py").write_text("1 / 0\n")
    with pytest.raises(BrokenPlatformError, match=r"__init__.py:1: ZeroDivisionError"):
        load_platform("plat_fails", Finder([folder]))
    assert "plat_fails" not in sys.modules
    (folder / "__init__.py").write_text("")
    assert load_platform("plat_fails", Finder([folder])).bindings


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (WEIGH, ""),
        (WEIGH.replace("@any", "@edge"), "@any and @edge"),
        (WEIGH.replace("= 1", "= 2"), "times is optional in one, or has another default"),
        (WEIGH.replace("Float @any", "Integer @any"), "its result is Float and Integer"),
        ("weigh(loaf: Loaf): Float @any", "only one has times"),
        ("weigh(loaf: Loaf, times: Integer = 1) @any", "one has a result and one has none"),
    ],
)
def test_functions_of_one_name_must_be_declared_alike(tmp_path: Path, other: str, said: str) -> None:
    finder = Finder([make(tmp_path, "plat_one"), make(tmp_path, "plat_other", functions=other, python=None)])
    found = conflicts({name: load_platform(name, finder) for name in ("plat_one", "plat_other")})
    text = f"the function weigh is declared differently by plat_one and plat_other: {said}"
    assert [one.what for one in found] == ([text] if said else [])


def test_records_of_one_name_are_compared_by_what_they_are(tmp_path: Path) -> None:
    folders = [make(tmp_path, "plat_g", python=None), make(tmp_path, "plat_kg", python=None)]
    schema = folders[1] / "plat_kg.edge"
    schema.write_text(schema.read_text().replace('"g"', '"kg"'))
    finder = Finder(folders)
    (only,) = conflicts({name: load_platform(name, finder) for name in ("plat_g", "plat_kg")})
    assert "loaf.weight_g is in g and in kg" in only.what


def test_two_that_bind_one_function_contradict_each_other(tmp_path: Path) -> None:
    finder = Finder([make(tmp_path, "plat_first"), make(tmp_path, "plat_second")])
    (only,) = conflicts({name: load_platform(name, finder) for name in ("plat_first", "plat_second")})
    assert only.what.startswith("weigh is bound by plat_first and plat_second: ")
    shared = FUNCTIONS.split("@dataclass")[0] + "from plat_first.functions import weigh\n"
    finder = Finder([tmp_path / "plat_first", make(tmp_path, "plat_third", python=shared)])
    assert conflicts({name: load_platform(name, finder) for name in ("plat_first", "plat_third")}) == []


def test_everything_wrong_is_told_in_one_go(tmp_path: Path) -> None:
    good = make(tmp_path, "plat_good")
    bad = make(tmp_path, "plat_bad", python="1 / 0\n")
    (tmp_path / "plat_hollow").mkdir()
    with pytest.raises(SeveralError) as raised:
        load_platforms(["plat_nowhere"], [good, bad, tmp_path / "plat_hollow", tmp_path / "plat_absent"])
    said = [type(error) for error in raised.value.errors]
    assert said == [BrokenPlatformError, BrokenPlatformError, NoSuchPlatformError, BrokenPlatformError]
    for text in (
        "plat_hollow has no plat_hollow.edge",
        "plat_absent is no folder",
        "plat_nowhere",
        "ZeroDivisionError",
    ):
        assert text in str(raised.value)


def test_the_platforms_of_a_host_are_those_named_and_those_in_folders(tmp_path: Path) -> None:
    loaded = load_platforms([], [make(tmp_path, "plat_alone")])
    assert [name for name in loaded.by_name if name != "core"] == ["plat_alone"]
    owner = loaded.owner("weigh")
    assert owner is not None
    assert owner.name == "plat_alone"
    assert loaded.owner("nothing") is None


def test_folders_are_named_as_they_are_written(tmp_path: Path) -> None:
    make(tmp_path, "plat_target")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "plat_target"
    link.symlink_to(tmp_path / "plat_target")
    names, wrong = folder_names([link, tmp_path / "elsewhere" / ".." / "plat_target"])
    assert (names, wrong) == (["plat_target", "plat_target"], [])
    assert isinstance(Finder([link, tmp_path / "plat_target"]).find("plat_target"), Origin)  # one and the same
    assert issubclass(ConflictError, PlatformError)
