from pathlib import Path

import pytest

from tests.infer.fickle import Fickle, build_fickle


@pytest.fixture(scope="session")
def fickle_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fickle(tmp_path_factory.mktemp("delegate"))


@pytest.fixture
def fickle(fickle_library: Path, tmp_path: Path) -> Fickle:
    made = Fickle(fickle_library, tmp_path / "mode")
    made.become("ok")
    return made
