"""How the functions of each platform are called: what is seen by `history.py` is what they look at."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Calls:
    """Each function with every one of its arguments, at both hosts. `settings` is the platform's part of the node's
    configuration, in TOML; `askew` is one that makes no sense."""

    settings: str = ""
    arguments: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    askew: str = ""


MARKS = ["crack", "pore", "undercut", "spatter"]  # what the scene shows; they play trays, vehicles and customers
TRAFFIC = f"""
[platforms.traffic.intersections.IS-001]
location = {{ lat = 31.2, lon = 121.5 }}
[[platforms.traffic.intersections.IS-001.approaches]]
name = "north"
camera_id = "cam1"
line = "oven_exit"
zone = "middle"
zone_length_m = 20.0
uninterrupted = true
vehicle_classes = {json.dumps(MARKS)}
heavy_classes = ["pore"]
[[platforms.traffic.intersections.IS-001.approaches]]
name = "south"
camera_id = "cam1"
line = "oven_entry"
inbound = "out"
vehicle_classes = {json.dumps(MARKS)}
[[platforms.traffic.intersections.IS-001.approaches]]
name = "west"
camera_id = "cam1"
line = "gate"
zone = "nowhere"
zone_length_m = 20.0
gap_after_s = 1.0
[[platforms.traffic.intersections.IS-002.approaches]]
name = "lane"
camera_id = "cam1"
line = "oven_exit"
zone = "nowhere"
zone_length_m = 20.0
vehicle_classes = {json.dumps(MARKS)}
"""
TRAFFIC_ASKEW = """
[platforms.traffic.intersections.IS-001]
nam = "Askew"
location = 5
approaches = [{ name = "east", camera_id = 1, inbound = "up", vehicle_classes = "car", zone_length_m = inf }, 7]
[platforms.traffic.intersections]
IS-003 = 4
"""
MANUFACTURING = """
[platforms.manufacturing.lines.L1]
ideal_cycle_s = 2.0
camera_id = "cam1"
minor_s = 30.0
demand_per_h = 1500.0
timezone = "Europe/Berlin"
shifts = [{ start = "00:00", end = "12:00" }, { start = "12:00", end = "00:00" }]
breaks = [{ start = "03:00", end = "03:30", days = ["mon", "tue"] }]
charts = [{ kind = "p", sample = 20, learn = 5 }, { kind = "u", sample = 20, learn = 5 },
          { kind = "xbar_r", sample = 5, learn = 5, field = "length_mm" }]
[platforms.manufacturing.lines.L2]
ideal_cycle_s = 5.0
source = "crossings"
camera_id = "cam1"
crossing = "oven_exit"
classes = ["crack", "pore"]
"""
RETAIL = f"""
[platforms.retail.stores.S-1]
name = "Weld shop"
[[platforms.retail.stores.S-1.entrances]]
camera_id = "cam1"
line = "oven_exit"
customer_classes = {json.dumps(MARKS)}
staff_classes = ["crack"]
[[platforms.retail.stores.S-2.entrances]]
camera_id = "cam1"
line = "oven_entry"
customer_classes = {json.dumps(MARKS)}
turn_back_s = 60.0
"""
RETAIL_ASKEW = """
[platforms.retail]
stores = 7
"""
AT_EXIT = {"camera_id": "cam1", "line": "oven_exit"}
AT_ENTRY = {"camera_id": "cam1", "line": "oven_entry", "inward": "out"}

# A function that is not listed is called once without arguments; one that needs some is reported as not called.
CALLS: dict[str, Calls] = {
    "bakery": Calls(
        "[platforms.bakery]\nloaves_per_tray = 12\n",
        {"countTrays": [{}, {"line": "oven_entry", "time_window": "10m"}, {"time_window": "never"}]},
    ),
    "manufacturing": Calls(
        MANUFACTURING,
        {
            name: [
                {"line_id": "L1", "time_window": "10m"},
                {"line_id": "L1", "time_window": "2h"},
                {"line_id": "L1", "time_window": "1h", "until": "2020-01-01T00:00:00Z"},
                {"line_id": "L2", "time_window": "2h"},
                {"line_id": "L9", "time_window": "10m"},
            ]
            for name in ("lineFigures", "controlCharts")
        },
    ),
    "traffic": Calls(
        TRAFFIC,
        {
            "analyzeTrafficFlow": [
                {"intersection_id": "IS-001", "time_window": "10s"},
                {"intersection_id": "IS-001", "time_window": "5m"},
                {"intersection_id": "IS-001", "time_window": "1h"},
                {"intersection_id": "IS-002", "time_window": "20m"},
                {"intersection_id": "IS-001", "time_window": "5m", "until": "2020-01-01T00:00:00Z"},
                {"intersection_id": "IS-001", "time_window": "5m", "until": "2100-01-01T00:00:00Z"},
                {"intersection_id": "IS-009", "time_window": "5m"},
            ]
        },
        TRAFFIC_ASKEW,
    ),
    "retail": Calls(
        RETAIL,
        {
            "countCustomers": [
                {"entrance_cameras": [AT_EXIT], "last": "1h"},
                {"entrance_cameras": [AT_EXIT, AT_ENTRY], "last": "1h", "interval": "1m", "inside_before": 3},
                {"entrance_cameras": [AT_ENTRY], "last": "2h"},
                {"entrance_cameras": [{"camera_id": "cam8", "line": "gate", "inward": "in"}], "last": "1m"},
                {"entrance_cameras": [{"camera_id": "cam8", "node_id": "gw-9"}], "last": "1m"},
                {"entrance_cameras": [{"camera_id": "cam1"}], "last": "10m"},  # either of two
                {"entrance_cameras": [AT_EXIT, AT_EXIT], "last": "10m"},
                {"entrance_cameras": [AT_EXIT]},
                {"entrance_cameras": [AT_EXIT], "last": "30d", "interval": "10s"},
                *(
                    {"entrance_cameras": [AT_EXIT], "time_range": {"start": f"{start}Z", "end": f"{end}Z"}}
                    for start, end in (
                        ("2020-01-01T00:00:00", "2020-01-01T00:10:00"),
                        ("2020-01-02T00:00:00", "2020-01-01T00:00:00"),
                        ("2100-01-01T00:00:00", "2100-01-02T00:00:00"),
                    )
                ),
            ]
        },
        RETAIL_ASKEW,
    ),
}
