"""The `[platforms]` table of a configuration."""

from pathlib import Path
from typing import Any

import pytest

from platforms.settings import read_platforms

HERE = Path("/etc/edgewright")


def test_the_table_is_read_and_folders_lie_beside_the_file() -> None:
    raw = {
        "enabled": ["traffic"],
        "folders": ["platforms/bakery", "/opt/dairy"],
        "bakery": {"loaves_per_tray": 12},
        "traffic": {},
        "core": {"x": 1},
    }
    table, mistakes = read_platforms(raw, HERE)
    assert mistakes == []
    assert table.enabled == ("traffic",)
    assert table.folders == (HERE / "platforms/bakery", Path("/opt/dairy"))
    assert table.settings == {"bakery": {"loaves_per_tray": 12}, "traffic": {}, "core": {"x": 1}}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"enabled": "traffic"}, "platforms.enabled: must be a list of texts"),
        ({"folders": [1]}, "platforms.folders: must be a list of texts"),
        ({"enabled": ["a", "a"]}, "platforms.enabled: a is there twice"),
        ({"enable": ["a"]}, "platforms.enable: there are enabled, folders, and a table for each platform"),
        ({"bakrey": {}}, "platforms.bakrey: there is no such platform among those enabled"),
        ({"enabled": [f"p{i}" for i in range(33)]}, "platforms: 33 are enabled; at most 32 can be"),
    ],
)
def test_each_mistake_is_told(raw: dict[str, Any], said: str) -> None:
    _, mistakes = read_platforms(raw, HERE)
    assert mistakes == [said]


def test_no_table_is_the_same_as_an_empty_one() -> None:
    table, mistakes = read_platforms({}, HERE)
    assert (table.enabled, table.folders, dict(table.settings), mistakes) == ((), (), {}, [])
