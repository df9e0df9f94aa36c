"""Benchmarks print one JSON object with the promised keys as their last line. Figures are not asserted here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assets import needs_assets

ROOT = Path(__file__).resolve().parents[2]


def last_line(*arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(figures, dict)
    return figures


@needs_assets
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_agent_path_prints_its_figures() -> None:
    figures = last_line("benchmarks.agent_path", "--json", "--seconds", "4")
    for key in ("throughput_ratio", "throughput_ratio_fast", "overhead_ms_p99", "e2e_ms_p99", "loop_stall_ms_p99"):
        assert isinstance(figures[key], float), key
    for key in ("rss_mb", "start_to_first_result_s", "threads", "model", "clip"):
        assert figures[key], key
    assert figures["lost"] == figures["duplicated"] == 0


@pytest.mark.slow
def test_tracker_prints_its_figures() -> None:
    assert last_line("benchmarks.tracker", "--json")


@needs_assets
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_bandwidth_prints_its_figures() -> None:
    figures = last_line("benchmarks.bandwidth", "--json", "--seconds", "6", "--clip", "road_counting_640x352.mp4")
    for key in ("reduction_vs_video", "reduction_vs_raw_results", "local_processing_rate"):
        assert isinstance(figures[key], float), key
    for key in ("video_bytes", "bytes_default", "bytes_raw", "frames", "results_made"):
        assert figures[key], key
    assert figures["missing"] == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_inspection_prints_its_figures() -> None:
    only = ("--only", "detector", "decision", "action")
    figures = last_line("benchmarks.inspection", "--json", "--tiny", *only)
    detector, action = figures["detector"], figures["action"]
    assert isinstance(detector, dict)
    assert isinstance(action, dict)
    for key in ("map50", "recall_at_1pct_false_alarms", "decision_ms_p50", "decision_ms_p99", "ratio_to_invoke"):
        assert isinstance(detector[key], float), key
    assert isinstance(action["action_ms_p99"], float)
    assert figures["targets"]
    assert figures["left_out"] == {"anomaly": "not asked for"}


def test_fleet_prints_its_figures() -> None:
    figures = last_line("benchmarks.fleet", "--json", "--tiny", "--nodes", "60", "--only", "ingest", "register")
    for key in ("ingest_msg_s", "ratio_vs_paho", "register_s", "heartbeats_s", "lag_s_p99", "cpu_cores"):
        assert isinstance(value := figures[key], float | int) and value >= 0, key
    for key in ("coordinator_rss_mb", "idle_bytes_per_node_s", "targets"):
        assert figures[key], key
    assert figures["nodes"] == 60


NONE_OF = ("false_offline", "restart_lost", "restart_duplicates", "false_failovers", "lost", "duplicates")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fleet_with_faults_loses_nothing() -> None:
    parts = ("killed", "restart", "storm", "rollout", "deploy", "failover")
    figures = last_line("benchmarks.fleet", "--json", "--tiny", "--nodes", "200", "--only", *parts)
    for key in (*NONE_OF, "failover_missed"):
        assert figures[key] == 0, key
    whole = ("storm_converged_s", "rollout_accept_s", "rollout_active_s", "deploy_active_s")
    for key in ("detect_killed_s_p50", *whole, "failover_s_p99"):
        assert isinstance(figures[key], float), key


def test_schema_prints_its_figures() -> None:
    figures = last_line("benchmarks.schema", "--json", "--repeats", "2")
    for key in ("validate_us_p50", "check_us_p50", "ratio_vs_jsonschema", "ratio_vs_pydantic"):
        assert isinstance(value := figures[key], float) and value > 0, key
    messages = figures["messages"]
    assert isinstance(messages, dict)
    assert set(messages) == {
        "birth", "heartbeat", "line_crossed", "frame_20_objects", "stream_sample", "command", "state_value",
    }  # fmt: skip


def test_fuzz_prints_its_figures() -> None:
    figures = last_line("benchmarks.fuzz", "--inputs", "500", "--json")
    assert figures["inputs"] == 500
    assert figures["defects"] == 0


def test_the_demo_adds_up() -> None:
    done = subprocess.run(
        ["bash", "scripts/demo", "--no-setup", "--seconds", "12", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["frames"] > 100
    assert summary["detections"] > 0
    assert summary["lost"] == summary["duplicated"] == 0
    assert summary["rows_stored"] == summary["events_published"] > 0
