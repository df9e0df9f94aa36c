"""The parts of the reuse figure: what is reached, what a traced process has run, and the share of both."""

import ast
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from benchmarks.reuse import any_functions, arguments_of, platforms_toml, reach_of
from benchmarks.reuselib.calls import CALLS, Calls
from benchmarks.reuselib.figures import Place, places, share
from benchmarks.reuselib.reach import Modules, Reach, Unit, code_lines
from benchmarks.reuselib.trace import environment, lines_run
from coordinator.ctl.platform_new import new_platform
from platforms.settings import read_platforms
from platforms.testing import load_folder
from tests.benchmarks.test_benchmarks_run import last_line

FILES = {
    "app/__init__.py": "",
    "app/functions.py": """
        from app import sums
        from app.shapes import Square, Unused
        from app.host import Context
        from other.library import far_away
        import app.deep.words

        TABLE = {"half": sums.half}

        def start(context: Context, side: float) -> float:
            square = Square(side)
            context.tell(app.deep.words.hello())
            far_away(square)
            return TABLE["half"](square.area)

        def never() -> None:
            sums.twice(1)
    """,
    "app/sums.py": """
        def half(value: float) -> float:
            return _scaled(value, 0.5)

        def twice(value: float) -> float:
            return _scaled(value, 2.0)

        def _scaled(value: float, by: float) -> float:
            return value * by
    """,
    "app/shapes.py": """
        class Shape:
            def tell(self) -> None: ...
            def lost(self) -> None: ...

        class Square(Shape):
            def __init__(self, side: float) -> None:
                self.side = side
            @property
            def area(self) -> float:
                return self.side ** 2
            def draw(self) -> None:
                raise NotImplementedError

        class Unused:
            def area(self) -> float:
                return 0.0
    """,
    "app/host.py": """
        class Context:
            def tell(self, text: str) -> None:
                '''An interface.'''

        class Real:
            def tell(self, text: str) -> None:
                print(text)
            def other(self) -> None:
                print(1)
    """,
    "app/deep/__init__.py": "",
    "app/deep/words.py": """
        def hello() -> str:
            return "hello"
    """,
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path / "app"


def names(units: list[Unit]) -> set[str]:
    return {f"{unit.file.stem}.{unit.name}" for unit in units}


def test_what_is_named_is_reached_and_nothing_else(app: Path) -> None:
    reach = Reach(Modules({"app": app}))
    reach.add("app.functions", "start")
    assert names(reach.units()) == {
        "functions.start",
        "sums.half",
        "sums._scaled",
        "shapes.Square.__init__",
        "shapes.Square.area",
        "shapes.Shape.tell",
        "host.Context.tell",
        "words.hello",
    }


def test_an_interface_leads_to_the_class_behind_it(app: Path) -> None:
    reach = Reach(Modules({"app": app}), {"app.host.Context": "app.host.Real"})
    reach.add("app.functions", "start")
    found = names(reach.units())
    assert "host.Real.tell" in found
    assert "host.Real.other" not in found


def test_a_function_that_is_not_there_is_told(app: Path) -> None:
    for module, function in (("app.functions", "nowhere"), ("app.nowhere", "start"), ("other", "x")):
        with pytest.raises(KeyError):
            Reach(Modules({"app": app})).add(module, function)


CODE = '''
def f(a, b=1):
    """Documentation is no code."""
    if (
        a
        and b
    ):
        pass
    else:
        value = g(
            a,
        )
    for x in a: print(x)
    with b:
        try:
            raise E
        except E:
            value: int
    match a:
        case 1:
            return 2
    @d
    def inner():
        return 3
'''


def test_lines_are_statements_and_heads_of_statements() -> None:
    node = ast.parse(CODE).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert sorted(code_lines(node)) == [
        (4, 7), (10, 12), (13, 13), (13, 13), (14, 14), (15, 15), (16, 16), (19, 19), (21, 21), (22, 23), (24, 24),
    ]  # fmt: skip


def test_the_share_counts_each_line_once_and_names_what_is_missed() -> None:
    one, two = Path("/r/one.py"), Path("/r/two.py")
    found = places([Unit(one, "f", frozenset({(1, 1), (2, 4)})), Unit(one, "g", frozenset({(2, 4)}))])
    found |= places([Unit(two, "h", frozenset({(7, 7), (8, 8)}))])
    assert len(found) == 4
    got = share(found, {one: {1, 3}, two: {7}}, {one: {1, 4}, two: {8, 99}}, Path("/r"))
    assert (got.reachable, got.agent, got.coordinator, got.both, got.ratio) == (4, 3, 3, 2, 0.5)
    assert got.missed == ["two.py:7 (agent)", "two.py:8 (coordinator)"]
    assert share(frozenset(), {}, {}).ratio == 0.0
    assert Place(one, 2, 4).ran({one: {5}}) is False


def test_a_traced_process_tells_its_lines_in_threads_and_when_killed(tmp_path: Path) -> None:
    target, quiet = tmp_path / "target.py", tmp_path / "quiet.py"
    target.write_text(
        "import threading, quiet\n"
        "def in_thread():\n"
        "    quiet.g()\n"
        "async def soon():\n"
        "    return 1\n"
        "def never():\n"
        "    return 2\n"
    )
    quiet.write_text("def g():\n    return 1\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, os, threading, target\n"
        "thread = threading.Thread(target=target.in_thread)\n"
        "thread.start(); thread.join()\n"
        "asyncio.run(target.soon())\n"
        "os.kill(os.getpid(), 9)\n"
    )
    out = tmp_path / "out"
    variables = environment(tmp_path / "hook", out, [target], [tmp_path])
    done = subprocess.run([sys.executable, str(program)], env={**os.environ, **variables}, timeout=60, check=False)
    assert done.returncode == -9
    ran = lines_run(out)
    assert set(ran) == {target}
    assert ran[target] >= {3, 5}
    assert 7 not in ran[target]
    next(out.iterdir()).write_text(f"3 {target}\n5 {target}")  # cut off
    assert lines_run(out) == {target: {3}}


def test_a_new_platform_is_reached_from_its_any_function(tmp_path: Path) -> None:
    new_platform("plat_reuse", tmp_path)
    folder = tmp_path / "plat_reuse" / "plat_reuse"
    platform = load_folder(folder)
    assert any_functions(platform) == ["countTrays"]
    found = names(reach_of(platform, {"plat_reuse": folder}).units())
    assert {"functions.count_trays", "functions._crossings", "counting.crossings", "counting.per_hour"} <= found
    assert not {"functions.oven_occupancy", "counting.inside"} & found


def test_calls_come_from_the_table_or_are_empty_where_that_will_do(tmp_path: Path) -> None:
    new_platform("plat_calls", tmp_path)
    platform = load_folder(tmp_path / "plat_calls")
    assert arguments_of(platform, "countTrays", {}) == [{}]
    assert arguments_of(platform, "countTrays", {"plat_calls": Calls("", {"countTrays": [{"line": "a"}]})}) == [
        {"line": "a"}
    ]
    settings = CALLS["bakery"].settings
    table = read_platforms_of(platforms_toml(["core", "traffic"], [Path("/p/bakery")], settings))
    assert table == (("traffic",), ("bakery",), {"bakery": {"loaves_per_tray": 12}})


@pytest.mark.parametrize("name", CALLS)
def test_settings_of_the_table_are_toml(name: str) -> None:
    for settings in (CALLS[name].settings, CALLS[name].askew):
        enabled, _, found = read_platforms_of(platforms_toml([name], [], settings))
        assert enabled == (name,)
        assert isinstance(found, dict)
        assert set(found) <= {name}


def read_platforms_of(text: str) -> tuple[tuple[str, ...], tuple[str, ...], object]:
    table, mistakes = read_platforms(tomllib.loads(text)["platforms"], Path("/"))
    assert mistakes == []
    return table.enabled, tuple(folder.name for folder in table.folders), table.settings


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_most_of_the_code_runs_in_both_hosts() -> None:
    figures = last_line("benchmarks.reuse", "--json")
    assert figures["refused"] == figures["not_called"] == []
    assert figures["target_met"] is True, figures
