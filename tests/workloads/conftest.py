"""One podman, and one docker, for all tests of this folder, without containers at the start of each."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workloads.pods import Pods, open_pods


@pytest.fixture(scope="session", params=["podman", pytest.param("docker", marks=pytest.mark.slow)])
def shared_pods(request: pytest.FixtureRequest) -> Iterator[Pods]:
    """In a folder of its own, since pytest's may lie deep: podman takes no run root of more than 50 characters."""
    with (
        tempfile.TemporaryDirectory(prefix="pods-", ignore_cleanup_errors=True) as folder,
        open_pods(request.param, Path(folder)) as pods,
    ):
        yield pods


@pytest.fixture
def pods(shared_pods: Pods) -> Iterator[Pods]:
    yield shared_pods
    shared_pods.clear()
