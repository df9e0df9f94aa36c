from pathlib import Path

import pytest

from tests.capture.helpers import moving, plain, write_clip


@pytest.fixture(scope="session")
def moving_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 s of a moving picture at 20 fps, 160x120."""
    return write_clip(tmp_path_factory.mktemp("clips") / "moving.mp4", (moving(n) for n in range(1200)))


@pytest.fixture(scope="session")
def freezing_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 s of movement, then 59 s of one picture."""
    pictures = (moving(min(n, 20)) for n in range(1200))
    return write_clip(tmp_path_factory.mktemp("clips") / "freezing.mp4", pictures)


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 pictures at 20 fps, 160x120, ever brighter."""
    return write_clip(tmp_path_factory.mktemp("clips") / "short.mp4", (plain(5 * n, 5 * n, 5 * n) for n in range(50)))
