"""Who may import whom, and which file may touch which outside library. Read from the source, nothing is imported."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A folder may import itself and these. Tests, benchmarks and scripts may import everything.
LAYERS: dict[str, set[str]] = {
    "schemas": set(),
    "runtime": {"schemas"},
    "platforms": {"schemas"},
    "agent": {"schemas", "runtime", "platforms"},
    "coordinator": {"schemas", "runtime", "platforms"},
}
# A process knows no platform: what one brings comes to it by its name, through what every platform can use.
PROCESSES = ("agent", "coordinator")
OURS = {*LAYERS, "tests", "benchmarks", "scripts"}

# An outside library: the files that may import it, also inside a function. Absent from the table: free for all.
TECHNOLOGIES: dict[str, list[str]] = {
    "paho": ["runtime/mqtt/connection.py", "runtime/mqtt/quick.py"],
    "aiomqtt": [],
    "msgpack": ["schemas/codec.py", "schemas/blobs.py", "agent/outbox/encode.py", "agent/results/store.py"],
    "zstandard": ["schemas/compress.py"],
    "lark": ["schemas/language/parse.py"],
    "msgspec": ["schemas/compiled.py", "schemas/language/validators.py"],
    "sqlite3": [
        "runtime/sqlite.py",
        "agent/outbox/*.py",
        "agent/state.py",
        "agent/evidence/*.py",
        "agent/platform_state/*.py",
        "agent/results/*.py",
        "coordinator/store/*.py",
    ],
    "psycopg": ["runtime/postgres.py"],
    "sqlite_utils": [],
    "numpy": ["agent/*", "platforms/*", "coordinator/quantize/convert.py", "coordinator/schedule/*"],
    "av": ["agent/capture/*.py", "agent/evidence/encode.py"],
    "cv2": ["agent/calibrate/chessboard.py"],
    "zxingcpp": ["platforms/manufacturing/inspection/codes.py"],
    "ai_edge_litert": [
        "agent/infer/graph/flatbuffer.py",
        "agent/infer/litert.py",
        "agent/infer/compiled.py",
        "platforms/*/training/*.py",
        "coordinator/quantize/convert.py",
    ],
    "tflite_runtime": ["agent/infer/litert.py"],
    "tensorflow": ["platforms/*/training/*.py", "coordinator/quantize/convert.py"],
    "minio": ["coordinator/evidence/s3.py"],
    "urllib3": ["coordinator/evidence/s3.py"],
    "cryptography": ["runtime/ed25519.py"],
    "h11": ["coordinator/models/http.py"],
    "gpiod": ["agent/actions/gpio.py"],
    "pymodbus": ["agent/sensors/modbus.py"],
    "asyncua": ["agent/sensors/opcua.py"],
    "serial": ["agent/sensors/serial_line.py"],
    "subprocess": ["agent/capture/ffmpeg.py", "agent/infer/child.py", "coordinator/quantize/environment.py"],
}


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, at any depth, `import_module("literal")` included."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(level=0, module="platforms", names=names):
                yield from ((node.lineno, f"platforms.{alias.name}") for alias in names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield node.lineno, module
            case ast.ImportFrom(level=level) if level > 0:
                yield node.lineno, "." * level
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module


def is_platform(module: str) -> bool:
    """Whether it is a platform, or a part of one: a package beside its schema, not a file of `platforms/`."""
    name = module.removeprefix("platforms.").split(".")[0]
    return module.startswith("platforms.") and (ROOT / "platforms" / name / f"{name}.edge").is_file()


def violations(root: Path) -> list[str]:
    """Each broken rule beneath `root`, as `path:line: what`."""
    found = []
    for layer, below in LAYERS.items():
        for path in sorted((root / layer).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            for line, module in imported(ast.parse(path.read_text(encoding="utf-8"), name)):
                top = module.split(".")[0]
                if module.startswith("."):
                    found.append(f"{name}:{line}: a relative import; write the whole name")
                elif top in OURS and top != layer and top not in below:
                    found.append(f"{name}:{line}: {layer} must not import {module}")
                elif layer in PROCESSES and is_platform(module):
                    found.append(f"{name}:{line}: {layer} must know no platform, and {module} is one")
                elif top in TECHNOLOGIES and not any(fnmatch(name, allowed) for allowed in TECHNOLOGIES[top]):
                    found.append(f"{name}:{line}: {top} belongs to {' '.join(TECHNOLOGIES[top])}")
    return found


def test_the_layers_hold() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("schemas/topics.py", "import runtime.errors", "schemas must not import runtime.errors"),
        ("runtime/mqtt/connection.py", "from agent.link import sender", "runtime must not import agent.link"),
        (
            "platforms/core/f.py",
            "def f():\n    import runtime.logs",
            "platforms/core/f.py:2: platforms must not import",
        ),
        ("agent/link/x.py", "from coordinator import store", "agent must not import coordinator"),
        ("coordinator/x.py", "import json, agent.capture", "coordinator must not import agent.capture"),
        ("agent/x.py", "from tests.assets import ASSETS", "agent must not import tests.assets"),
        ("agent/x.py", "import benchmarks", "agent must not import benchmarks"),
        ("agent/x.py", "from . import y", "a relative import"),
        ("agent/x.py", "from platforms.manufacturing.types import A", "agent must know no platform"),
        ("agent/x.py", "from platforms import manufacturing", "agent must know no platform"),
        ("coordinator/x.py", "def f():\n    import platforms.traffic.flow", "coordinator must know no platform"),
        (
            "agent/x.py",
            "import importlib\nimportlib.import_module('coordinator.app')",
            "x.py:2: agent must not import",
        ),
        ("agent/link/sender.py", "import paho.mqtt.client as mqtt", "paho belongs to runtime/mqtt/connection.py"),
        ("coordinator/ingest/x.py", "if True:\n    from sqlite3 import Row", "x.py:2: sqlite3 belongs to"),
        ("coordinator/x.py", "import numpy as np", "numpy belongs to"),
        ("agent/capture/x.py", "import cv2", "cv2 belongs to"),
        ("agent/track/x.py", "import av.error", "av belongs to"),
    ],
)
def test_a_bad_import_is_caught(tmp_path: Path, path: str, source: str, said: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    (only,) = violations(tmp_path)
    assert said in only


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "agent/link/sender.py",
            "import asyncio\nimport schemas.topics\nfrom runtime.mqtt import Client\nimport agent.outbox",
        ),
        ("runtime/mqtt/connection.py", "import paho.mqtt.client"),
        ("agent/capture/pyav.py", "import av"),
        ("coordinator/store/sqlite.py", "from platforms.loading import f\nimport sqlite3"),
    ],
)
def test_a_good_import_passes(tmp_path: Path, path: str, source: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []
