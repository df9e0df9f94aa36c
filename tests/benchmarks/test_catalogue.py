"""The figure of the model catalogue is measured, on the real registry."""

from benchmarks.fleetlib.catalogue import catalogue


def test_the_catalogue_is_filled_and_asked() -> None:
    found = catalogue(20, selections=40)
    assert found["model_catalog"] == 20
    assert 0 < found["select_ms_p50"] <= found["select_ms_p99"]
