"""Every module of ours imports alone, quietly and without side effects, and its `__all__` names what is there."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each layer, and the heavy libraries that its modules must import without: the coordinator's machine has none of the
# vision stack, and the agent must not pay their memory for what it rarely needs.
_RARE = ("cv2", "ai_edge_litert", "tflite_runtime", "tensorflow")
_VISION = ("numpy", "av", *_RARE)
LAYERS: dict[str, tuple[str, ...]] = {
    "schemas": _VISION,
    "runtime": _VISION,
    "platforms": (),
    "agent": _RARE,
    "coordinator": ("av", *_RARE),  # numpy: the scheduler
    "benchmarks": (),
}

# Modules that need a library outside the shared environment, and say so by its name when they are imported.
NEEDS_EXTRA = {
    "platforms.*.training.*": "tensorflow",
    "benchmarks.*": "trackers",
    "agent.infer.graph.*": "ai_edge_litert",  # has the schema of model files; tflite_runtime has not
    "agent.teach.*": "ai_edge_litert",
    "agent.sensors.modbus": "pymodbus",
    "agent.sensors.opcua": "asyncua",
    "agent.sensors.serial_line": "serial",
}

# Imports each module named in argv[3:] in a forked child of a fresh interpreter that has imported nothing of ours,
# and prints one JSON object per module. argv[1]: the root; argv[2]: libraries that are refused, as JSON.
PROBE = r"""
import json, os, sys, threading
sys.path.insert(0, sys.argv[1])
refused = set(json.loads(sys.argv[2]))

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r} (refused)", name=name)

SIDE_EFFECTS = {"socket.__new__", "socket.bind", "socket.connect", "subprocess.Popen", "os.system", "os.fork",
                "os.posix_spawn", "os.remove", "os.mkdir", "os.rename", "sqlite3.connect", "signal.pthread_kill"}

def check(name):
    problems = []
    def hook(event, args):
        if args and (isinstance(args[0], int) or "__pycache__" in str(args[0])):
            return  # the interpreter's own bytecode cache, by name or by the descriptor it opened
        if event in SIDE_EFFECTS:
            problems.append(f"{event} {str(args)[:100]}")
        elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            problems.append(f"opens {args[0]} to write")
    sys.meta_path.insert(0, Refuse())
    sys.addaudithook(hook)
    try:
        module = __import__(name, fromlist=["_"])
    except ModuleNotFoundError as error:
        return {"absent": (error.name or "").split(".")[0], "problems": [repr(error)]}
    except BaseException as error:
        return {"problems": [repr(error)]}
    problems += [f"starts thread {thread.name}" for thread in threading.enumerate()[1:]]
    names = getattr(module, "__all__", ())
    problems += [f"__all__ names {public}, which is not there" for public in names if not hasattr(module, public)]
    problems += [f"__all__ names {public} twice" for public in set(names) if list(names).count(public) > 1]
    return {"problems": problems}

# Once for all, or each child would spend its time on them.
for library in {"asyncio", "numpy", "av", "paho.mqtt.client", "aiomqtt"} - refused:
    try:
        __import__(library)
    except ModuleNotFoundError:
        pass

for name in sys.argv[3:]:
    answers, answer_to = os.pipe()
    printed, print_to = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(print_to, 1)
        os.dup2(print_to, 2)
        result = check(name)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answer_to, json.dumps(result).encode()[:60_000])
        os._exit(0)
    os.close(answer_to)
    os.close(print_to)
    said = os.fdopen(printed, "rb").read().decode(errors="replace")
    answer = os.fdopen(answers, "rb").read()
    os.waitpid(child, 0)
    result = json.loads(answer) if answer else {"problems": ["the interpreter died"]}
    if said:
        result["problems"].append(f"prints {said[:500]!r}")
    print(json.dumps({"module": name, **result}), flush=True)
"""


def modules(root: Path, layers: Iterable[str] = LAYERS) -> list[str]:
    """Dotted names of all modules and packages of `layers` beneath `root`."""
    paths = [path for layer in layers for path in sorted((root / layer).rglob("*.py"))]
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def import_alone(root: Path, names: Collection[str], refused: Collection[str] = ()) -> dict[str, list[str]]:
    """What is wrong with each module, those without a fault left out."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, str(root), json.dumps(list(refused)), *names],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        # Threads and fork do not go together; and the bytecode that Python keeps is no doing of the module's.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    results: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["module"] for result in results] == list(names), done.stderr
    return {
        result["module"]: result["problems"]
        for result in results
        if result["problems"] and not lacks_its_extra(result["module"], result.get("absent", ""))
    }


def lacks_its_extra(module: str, absent: str) -> bool:
    return any(fnmatch(module, pattern) and absent == library for pattern, library in NEEDS_EXTRA.items())


AT_ONCE = 80  # modules of one test: a busy machine takes its time for each
SOME = [(layer, at) for layer in LAYERS for at in range(0, len(modules(ROOT, [layer])), AT_ONCE)]


@pytest.mark.parametrize(("layer", "at"), SOME)
def test_every_module_imports_alone_and_without_side_effects(layer: str, at: int) -> None:
    names = modules(ROOT, [layer])[at : at + AT_ONCE]
    assert import_alone(ROOT, names, LAYERS[layer]) == {}


def test_no_layer_was_passed_over() -> None:
    assert {layer for layer, _ in SOME} == set(LAYERS)


IDLE_THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(9,), daemon=True, name='idle').start()
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("__all__ = ['absent']", "__all__ names absent, which is not there"),
        ("__all__ = ['a', 'a']\na = 1", "__all__ names a twice"),
        ("print('hello')", "prints 'hello\\n'"),
        ("import socket\nsocket.socket()", "socket.__new__"),
        (IDLE_THREAD, "starts thread idle"),
        ("open('made.txt', 'w').close()", "opens made.txt to write"),
        ("import subprocess\nsubprocess.run(['true'])", "subprocess.Popen"),
        ("import numpy", "No module named 'numpy' (refused)"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os\nos._exit(3)", "the interpreter died"),
    ],
)
def test_a_bad_module_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").touch()
    (tmp_path / "runtime" / "bad.py").write_text(source)
    (tmp_path / "runtime" / "good.py").write_text("__all__ = ['f']\n\ndef f() -> None: ...")
    faults = import_alone(tmp_path, modules(tmp_path), ["numpy"])
    assert list(faults) == ["runtime.bad"]
    assert said in "; ".join(faults["runtime.bad"])
