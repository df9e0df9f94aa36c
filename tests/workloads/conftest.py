"""One podman for all tests of this folder, without containers at the start of each."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workloads.pods import Pods, make_pods


@pytest.fixture(scope="session")
def shared_pods() -> Iterator[Pods]:
    """In a folder of its own, since pytest's may lie deep: podman takes no run root of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="pods-", ignore_cleanup_errors=True) as folder:
        made = make_pods(Path(folder))
        yield made
        made.clear()
        made.call("rmi", "--all", "--force")


@pytest.fixture
def pods(shared_pods: Pods) -> Iterator[Pods]:
    yield shared_pods
    shared_pods.clear()
