"""The generated Python: ruff and mypy are content with it, and it means what the schema says."""

import dataclasses
import importlib.util
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from schemas.language.load import Loaded
from schemas.language.python import python_module
from schemas.language.python_names import Names, class_name, member_name, snake_name
from schemas.language.python_text import comment, docstring, quoted, wrap
from tests.language.samples import ROOT, every_sample, harbour, loaders


def tool(*arguments: str) -> str:
    """What a tool of this environment complains about."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=110, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def imported(source: str, folder: Path, name: str = "generated_platform") -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def test_ruff_and_mypy_are_content(tmp_path: Path) -> None:
    for name, load in loaders().items():
        (tmp_path / f"made_{name}.py").write_text(python_module(load().schema), encoding="utf-8")
    paths = [str(path) for path in sorted(tmp_path.glob("made_*.py"))]
    assert len(paths) >= 2
    assert tool("ruff", "format", "--check", "--diff", "--no-cache", *paths, "--config", "pyproject.toml") == ""
    assert tool("ruff", "format", "--check", "--diff", "--no-cache", *paths, "--line-length", "88") == ""
    assert tool("ruff", "check", "--no-cache", *paths, "--config", "pyproject.toml") == ""
    assert tool("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *paths) == ""


@pytest.mark.parametrize("sample", every_sample())
def test_every_annotation_of_the_module_means_something(sample: Callable[[], Loaded], tmp_path: Path) -> None:
    module = imported(python_module(sample().schema), tmp_path)
    classes = [one for one in vars(module).values() if dataclasses.is_dataclass(one)]
    for one in classes:
        assert typing.get_type_hints(one, vars(module)).keys() >= {field.name for field in dataclasses.fields(one)}
    loaded = sample().schema
    assert len(getattr(module, "EVENTS", {})) == len(loaded.events)


def test_values_and_defaults_are_those_of_the_schema(tmp_path: Path) -> None:
    module: Any = imported(python_module(harbour().schema), tmp_path)
    ship = module.Ship(id="IMO1234567", names=["Anna"], seen_utc=1, radar=None, by_level={})
    assert (ship.class_, ship.level, ship.stay, ship.numbers) == ("cargo", "over-full", 3600.0, [1, 2])
    assert ship.level is module.BusyLevel.OVER_FULL
    assert ship.empty == module.EmptyRecord()
    assert module.Ship(id="", names=[], seen_utc=1, radar=None, by_level={}).numbers is not ship.numbers
    with pytest.raises(TypeError, match="by_level"):
        module.Ship(id="IMO1234567", names=["Anna"], seen_utc=1, radar=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ship.class_ = "ferry"
    assert module.EVENTS["ShipArrived"](ship=ship, berth_id="b").speed == 2.5
    assert module.State().counts == {}


def test_a_binding_of_plain_python_fits_the_protocol(tmp_path: Path) -> None:
    (tmp_path / "generated.py").write_text(python_module(harbour().schema), encoding="utf-8")
    (tmp_path / "bound.py").write_text(
        "import generated\n"
        "class Bound:\n"
        "    async def count_ships(self, berth_id: str, time_window: float = 1.0,\n"
        "                          levels: list[generated.BusyLevel] | None = None) -> list[generated.Ship]:\n"
        "        return []\n"
        "good: generated.EdgeFunctions = Bound()\n"
        "bad: generated.CloudFunctions = Bound()\n"
    )
    said = tool("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "bound.py"))
    assert "bound.py:7" in said and "bound.py:6" not in said


@pytest.mark.parametrize(
    ("name", "python"),
    [("Flow_Analysis", "FlowAnalysis"), ("AI_Model", "AIModel"), ("flow", "Flow"), ("Warning", "WarningType")],
)
def test_classes_are_in_cap_words(name: str, python: str) -> None:
    assert class_name(name) == python


@pytest.mark.parametrize(
    ("name", "python"),
    [
        ("analyzeTrafficFlow", "analyze_traffic_flow"),
        ("recognizeVIP", "recognize_vip"),
        ("detectOutOfShelf", "detect_out_of_shelf"),
        ("getHTTPState2", "get_http_state2"),
        ("reset", "reset"),
    ],
)
def test_functions_are_in_snake_case(name: str, python: str) -> None:
    assert snake_name(name) == python


def test_names_come_once_and_are_no_keywords() -> None:
    names = Names()
    assert [names.claim(each) for each in ("class", "a", "a", "a", "int")] == ["class_", "a", "a2", "a3", "int_"]
    assert (member_name("over_full"), member_name("_"), member_name("inUse")) == ("OVER_FULL", "VALUE", "IN_USE")


def test_texts_stay_texts() -> None:
    for text in ("it's", 'say "a"', "both ' and \"", "\\", "\n\t\u202e\x00智", ""):
        assert eval(quoted(text)) == text  # noqa: S307
        (line,) = docstring(text or "x", "") if len(text) < 10 and text.strip() else ['"""x"""']
        compile(line, "docstring", "exec")
    assert comment("type: ignore # noqa") == "# in type: ignore No.  noqa"


def test_lines_are_wrapped_by_the_columns_they_take() -> None:
    assert list(wrap("一二三四五六", 4)) == ["一二", "三四", "五六"]
    assert list(wrap("a bc d\n\n efghij", 4)) == ["a bc", "d", "", "efgh", "ij"]
