"""Broken input by the thousand, for everything that reads what others wrote; far more of it in the long run."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import fuzz, targets
from benchmarks.fuzzlib.readers import read_blob, read_document, read_frame, read_message, read_schema
from benchmarks.fuzzlib.texts import SAMPLE

INPUTS = {"parser": 300, "codec": 1500, "blobs": 1500, "documents": 1000, "compress": 1000}
LONG_INPUTS = int(os.environ.get("EDGEWRIGHT_FUZZ_INPUTS", "1000000"))


@pytest.mark.parametrize("target", INPUTS)
def test_broken_input_is_taken_or_refused_in_order(target: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    outcome = fuzz(target, range(INPUTS[target]), seed)
    assert not outcome.defects, f"seed {seed}: {outcome.defects[0]}"
    assert outcome.inputs == INPUTS[target]
    assert 0 < outcome.accepted < outcome.inputs, "some are taken and some are not, or nothing is tested"


def test_the_same_number_gives_the_same_input() -> None:
    for make, _ in targets().values():
        assert make(random.Random("7")) == make(random.Random("7"))


@given(
    st.text(max_size=200)
    | st.sampled_from(SAMPLE.split("\n\n")).flatmap(lambda part: st.text(max_size=5).map(lambda more: part + more))
)
@settings(max_examples=150, deadline=None)
def test_any_text(text: str) -> None:
    read_schema(text)


@given(st.binary(max_size=300))
@settings(max_examples=1000, deadline=None)
def test_any_bytes(payload: bytes) -> None:
    read_message(payload)
    read_blob(payload)
    read_document(payload)
    read_frame(payload)


@pytest.mark.slow
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("target", INPUTS)
def test_a_million_inputs(target: str) -> None:
    """A million in total, shared as the short run shares them; EDGEWRIGHT_FUZZ_INPUTS says how many."""
    count = LONG_INPUTS * INPUTS[target] // sum(INPUTS.values()) + 1
    outcome = fuzz(target, range(count), 1)
    assert not outcome.defects, outcome.defects[0]
