"""Where the shared test data lies, and the mark that skips a test where it is absent."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "assets"
ASSETS = Path(os.environ.get("EDGEWRIGHT_ASSETS", _BESIDE))

needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason=f"test data is absent: {ASSETS}")
