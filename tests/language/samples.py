"""What the exporters are tried on: a platform that has everything, the shipped ones, and the seed's own blocks."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from schemas.language.load import Loaded, load, load_text

ROOT = Path(__file__).resolve().parents[2]
HARBOUR = Path(__file__).parent / "exported" / "harbour.edge"
HOSTILE = HARBOUR.with_name("hostile.edge")
SHIPPED = sorted((ROOT / "platforms").glob("*/*.edge"))
SEED = ROOT.parent / "shared" / "seed"


def harbour() -> Loaded:
    return load(HARBOUR)


def find(name: str) -> Path | None:
    """Where the shipped platform of that name has its schema."""
    return next((path for path in SHIPPED if path.stem == name), None)


def seed_blocks() -> dict[str, str]:
    """The text of each `edge_computing` block as the seed writes it, by its name; empty where there is no seed."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(SEED.glob("*.md"))] if SEED.is_dir() else []
    found = [block for text in texts for block in re.findall(r"```dsl\n(edge_computing .*?)```", text, re.DOTALL)]
    return {block.split()[1]: block for block in found}


def loaders() -> dict[str, Callable[[], Loaded]]:
    """By name: what loads the sample."""
    found: dict[str, Callable[[], Loaded]] = {"harbour": harbour, "hostile": partial(load, HOSTILE)}
    for path in SHIPPED:
        found[path.stem] = partial(load, path, find)
    for name, text in seed_blocks().items():
        found[name] = partial(load_text, text, name)
    return found


def every_sample() -> list[object]:
    """Parameters for a test: each is a function that loads one."""
    absent = pytest.mark.skip(reason=f"the seed is absent: {SEED}")
    seed = [] if seed_blocks() else [pytest.param(harbour, id="seed", marks=absent)]
    return [*(pytest.param(one, id=name) for name, one in loaders().items()), *seed]
