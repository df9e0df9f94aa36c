"""Figures add up over processes, and come through a pipe unchanged."""

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from coordinator.simulate.figures import Figures, Spread, parse, report, total


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_exact_to_five_percent(values: list[float], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    ordered = sorted(values)
    exact = ordered[max(0, -int(-share * len(values) // 1) - 1)]
    found = spread.percentile_ms(share)
    assert found is not None
    assert exact * 0.999 - 0.01 <= found <= exact * 1.06 + 0.01


def test_of_nothing_there_is_no_percentile() -> None:
    assert Spread().percentile_ms(0.5) is None


def test_the_sum_of_parts_is_as_if_there_had_been_one() -> None:
    dice, parts, whole = random.Random(1), [Figures(nodes=2, sent=5), Figures(nodes=3, acked=4, cpu_s=0.5)], Figures()
    for part in parts:
        for _ in range(50):
            ms = dice.uniform(0, 1000)
            part.answer.add(ms)
            whole.answer.add(ms)
    parts[1].first_error = "said"
    found = total(parse(json.loads(json.dumps(part.plain()))) for part in parts)
    assert (found.nodes, found.sent, found.acked, found.cpu_s, found.first_error) == (5, 5, 4, 0.5, "said")
    assert found.answer == whole.answer


def test_a_report_of_nothing_can_be_written() -> None:
    found = json.loads(json.dumps(report(Figures(), all_connected_s=None, wall_s=0.0)))
    assert found["connected_s"] is None
    assert found["idle_bytes_per_node_s"] is None
