"""What the lock files hold, and that none of them says where to fetch it."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("agent", "build", "coordinator", "dev", "train")
VISION = {"av", "ai-edge-litert", "opencv-python-headless", "tensorflow"}
TOOLS = {"pytest", "ruff", "mypy", "hypothesis", "uv"}

# Distribution -> what it is pinned to: `1.2.3`, or `1.2.3 ; marker`, maybe several.
Pins = dict[str, set[str]]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> Pins:
    """The pinned requirements of a lock file's text."""
    found: Pins = {}
    for line in lock.replace("\\\n", " ").splitlines():
        if line and not line.startswith(("#", " ")):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==(.*?)((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line)
            assert match, f"not an exact version with hashes: {line[:100]}"
            found.setdefault(normalised(match[1]), set()).add(match[2].strip())
    return found


def versions(pinned: set[str]) -> set[str]:
    """Without the markers that say where each is installed."""
    return {one.partition(";")[0].strip() for one in pinned}


def read(name: str) -> Pins:
    return pins((ROOT / "lock" / f"{name}.txt").read_text())


def declared(extra: str = "") -> set[str]:
    """The distributions that pyproject.toml asks for itself: those of `extra`, or the common ones."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {normalised(re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]) for requirement in wanted}


@pytest.mark.parametrize("name", LOCKS)
def test_no_host_or_place_is_named(name: str) -> None:
    text = (ROOT / "lock" / f"{name}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|\bfile:", text)


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_exact_and_hashed(name: str) -> None:
    assert read(name)


def test_what_the_project_asks_for_is_locked() -> None:
    assert declared() | declared("coordinator") <= read("coordinator").keys()
    assert declared() | declared("agent") <= read("agent").keys()
    assert declared() | declared("agent") | declared("coordinator") | declared("dev") <= read("dev").keys()
    assert declared() | declared("agent") | declared("train") <= read("train").keys()


def test_the_coordinator_carries_nothing_of_the_vision_stack() -> None:
    assert not VISION & read("coordinator").keys()


def test_the_agent_carries_nothing_that_only_the_coordinator_needs() -> None:
    coordinator_only = declared("coordinator") - declared() - declared("agent")
    assert not coordinator_only & read("agent").keys()
    assert "tensorflow" not in read("agent")


@pytest.mark.parametrize("name", ["agent", "coordinator"])
def test_no_development_tool_is_shipped(name: str) -> None:
    assert not TOOLS & read(name).keys()


@pytest.mark.parametrize("name", ["agent", "coordinator"])
def test_what_is_shipped_is_what_the_tests_ran_with(name: str) -> None:
    """A marker may be narrower where fewer packages ask for one; the version is the same."""
    shipped, tested = read(name), read("dev")
    assert {package: versions(shipped[package]) for package in shipped} == {
        package: versions(tested[package]) for package in shipped
    }


@pytest.mark.parametrize(
    "line", ["msgpack>=1.0", "msgpack==1.0", "msgpack @ file:///tmp/x --hash=sha256:" + "0" * 64]
)
def test_a_loose_requirement_is_caught(line: str) -> None:
    with pytest.raises(AssertionError, match="not an exact version"):
        pins(line)
