"""What the exporters are tried on: a platform that has everything, the shipped ones, and the seed's own blocks."""

import re
from pathlib import Path

import pytest

from schemas.language.load import Loaded, load, load_text

ROOT = Path(__file__).resolve().parents[2]
HARBOUR = Path(__file__).parent / "exported" / "harbour.edge"
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


def every_sample() -> list[object]:
    """Parameters for a test: each gives a function that loads one."""
    seeds = seed_blocks()
    absent = pytest.mark.skip(reason=f"the seed is absent: {SEED}")
    return [
        pytest.param(harbour, id="harbour"),
        *(pytest.param(lambda path=path: load(path, find), id=path.stem) for path in SHIPPED),
        *(pytest.param(lambda name=name: load_text(seeds[name], name), id=name) for name in seeds),
        *([] if seeds else [pytest.param(harbour, id="seed", marks=absent)]),
    ]
