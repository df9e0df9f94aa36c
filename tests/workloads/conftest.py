"""One podman for all tests of this folder, without containers at the start of each."""

from collections.abc import Iterator

import pytest

from tests.workloads.pods import Pods, make_pods


@pytest.fixture(scope="session")
def shared_pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    made = make_pods(tmp_path_factory.mktemp("p"))
    yield made
    made.clear()
    made.call("rmi", "--all", "--force")


@pytest.fixture
def pods(shared_pods: Pods) -> Iterator[Pods]:
    yield shared_pods
    shared_pods.clear()
