"""The three platforms of the seed, read where they lie."""

import re

import pytest

from tests.assets import ASSETS

_PAGE = ASSETS.parent / "seed" / "edge-computing-schema-cases.md"
needs_seed = pytest.mark.skipif(not _PAGE.is_file(), reason=f"the seed is absent: {_PAGE}")


def blocks() -> list[str]:
    """Every `edge_computing` block, verbatim."""
    if not _PAGE.is_file():
        return []
    found: list[str] = re.findall(r"```\w*\n(edge_computing .*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found
