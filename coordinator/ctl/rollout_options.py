"""The options of a roll-out, for `rollout start` and `deploy`, and what they ask the coordinator for. Pure."""

import argparse
import re
from typing import Any

from coordinator.ctl import arguments

_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?)(ms|s|m|h|d)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)([kMG]?)B?")
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}


def add_options(start: argparse.ArgumentParser) -> None:
    """All but which nodes and what is to change."""
    text = "totals at the end of each, counts or percent (default 100%%)"
    start.add_argument("--waves", default="100%", metavar="1,5%,25%,100%", help=text)
    start.add_argument("--bake", type=span, default=0.0, metavar="SPAN", help="wait after each wave, as 30s, 5m, 1h")
    text = "share of failed and silent nodes that is borne (default 5%%)"
    start.add_argument("--budget", type=share, default=0.05, metavar="SHARE", help=text)
    start.add_argument("--min-sample", type=int, default=10, metavar="N", help="fewer are no sample (default 10)")
    start.add_argument("--rate", type=float, default=50.0, metavar="N", help="nodes told a second (default 50)")
    text = "until a node that was told has it (default 60s)"
    start.add_argument("--accept", type=span, default=60.0, metavar="SPAN", help=text)
    start.add_argument("--verify", type=span, default=60.0, metavar="SPAN", help="then until it holds (default 60s)")
    text = "what is done by itself when the budget is spent (default pause)"
    start.add_argument("--on-failure", choices=("pause", "abort", "rollback"), default="pause", help=text)
    start.add_argument("--continuous", action="store_true", help="include nodes that come to be selected later")
    start.add_argument("--healthy", action="store_true", help="a node needs a heartbeat without an error too")
    text = "p99 of inference in a heartbeat, at most, as 20ms"
    start.add_argument("--latency-max", type=span, default=0.0, metavar="SPAN", help=text)
    text = "the same against what it was before, as 1.2"
    start.add_argument("--latency-ratio", type=float, default=0.0, metavar="N", help=text)
    text = "the rate grows so many times each minute, as 2"
    start.add_argument("--rate-growth", type=float, default=1.0, metavar="N", help=text)
    start.add_argument("--id", default="", help="a name for it (default: r-1, r-2, ...)")
    start.add_argument("--watch", action="store_true", help="a line of progress until it has ended")


def add_fetch_options(start: argparse.ArgumentParser) -> None:
    """How a model comes to the nodes before their turn."""
    text = "all: every node fetches from the beginning; wave: those of the wave (default all)"
    start.add_argument("--ahead", choices=("all", "wave"), default="all", help=text)
    text = "for fetching, and for what a node says that it is still working on (default 1h)"
    start.add_argument("--fetch", type=span, default=3600.0, metavar="SPAN", help=text)
    text = "nodes told a second what to fetch (default 50)"
    start.add_argument("--fetch-rate", type=float, default=50.0, metavar="N", help=text)
    text = "nodes that fetch at a time (default 1000)"
    start.add_argument("--fetch-at-once", type=int, default=1000, metavar="N", help=text)
    text = "bytes a second of all of them, as 10MB: bounds the rate by the size of the model"
    start.add_argument("--bandwidth", type=size, default=0.0, metavar="BYTES", help=text)


def asked_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `startRollout`."""
    return {
        "select": parsed.select,
        "set": arguments.field_values(parsed.set),
        "unset": parsed.unset,
        "waves": [part.strip() for part in parsed.waves.split(",")],
        "bake_s": parsed.bake,
        "budget": parsed.budget,
        "sample_min": parsed.min_sample,
        "rate_per_s": parsed.rate,
        "accept_s": parsed.accept,
        "verify_s": parsed.verify,
        "on_failure": parsed.on_failure,
        "continuous": parsed.continuous,
        "healthy": parsed.healthy,
        "rate_growth": parsed.rate_growth,
        "latency_max_ms": parsed.latency_max * 1000,
        "latency_ratio": parsed.latency_ratio,
        "id": parsed.id,
    }


def fetch_asked_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """Those about fetching."""
    return {
        "ahead": parsed.ahead,
        "fetch_s": parsed.fetch,
        "fetch_rate_per_s": parsed.fetch_rate,
        "fetch_at_once": parsed.fetch_at_once,
        "bandwidth_bytes_s": parsed.bandwidth,
    }


def span(text: str) -> float:
    """`30s`, `5m`, `1h`; a number alone is seconds."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("not like 30s, 5m or 1h")
    return float(found[1]) * _UNITS_S[found[2] or "s"]


def share(text: str) -> float:
    """`5%` or `0.05`."""
    number = text.removesuffix("%")
    try:
        found = float(number) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError("not like 5% or 0.05") from error
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError("must be 0% to 100%")
    return found


def size(text: str) -> float:
    """`500kB`, `10MB`, `1G`; a number alone is bytes."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("not like 500kB, 10MB or 1GB")
    return float(found[1]) * _UNITS[found[2]]
