"""The AsyncAPI document: valid by the official parser, its topics those of the contract, its examples true."""

import copy
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.codec import decode_event, decode_result
from schemas.language.asyncapi import asyncapi
from schemas.language.asyncapi_parts import TELLINGS, plain_refs
from schemas.language.load import Loaded, load_text
from schemas.topics import RULES, Kind, TopicSpace
from tests.language.samples import every_sample, harbour, loaders

HERE = Path(__file__).parent / "asyncapi"
# What npm says when the registry cannot be reached.
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH")
ERROR = 0


@pytest.fixture(scope="session")
def parser_folder() -> Path:
    """A folder with the official parser in it, kept from run to run outside the repository."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    cache = Path(os.environ.get("EDGEWRIGHT_NPM_CACHE") or Path.home() / ".cache" / "edgewright-npm")
    package = json.loads((HERE / "package.json").read_text())
    version = package["dependencies"]["@asyncapi/parser"]
    folder = cache / f"asyncapi-parser-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parts of the tests may run side by side
        done = folder / "installed"
        if not done.exists():
            shutil.copy(HERE / "package.json", folder)
            _install(folder)
            done.touch()
    return folder


def _install(folder: Path) -> None:
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1"]
    done = subprocess.run(
        ["npm", "install", *options], cwd=folder, capture_output=True, text=True, timeout=400, check=False
    )
    if done.returncode != 0 and any(code in done.stderr for code in NO_NETWORK):
        pytest.skip(f"npm cannot reach its registry: {done.stderr.strip().splitlines()[0][:200]}")
    assert done.returncode == 0, done.stderr


def said(folder: Path, documents: dict[str, Any], work: Path) -> dict[str, Any]:
    """What the official parser says of each document."""
    files = {name: work / f"{name}.json" for name in documents}
    for name, path in files.items():
        path.write_text(json.dumps(documents[name]), encoding="utf-8")
    command = ["node", str(HERE / "validate.mjs"), str(folder), *map(str, files.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {name: found[str(path)] for name, path in files.items()}


@pytest.mark.timeout(600)
def test_the_official_parser_finds_no_error(parser_folder: Path, tmp_path: Path) -> None:
    documents = {}
    for name, load in loaders().items():
        loaded = load()
        documents[name] = asyncapi([loaded.schema, *(one for one in loaded.imported.values() if one.platform)])
    documents["one"] = asyncapi([harbour().schema], node="gw-1", root="tenant/edge/v1", host="broker.example")
    for name, found in said(parser_folder, documents, tmp_path).items():
        assert [one for one in found["problems"] if one["severity"] == ERROR] == [], name
        assert found["channels"] == len(documents[name]["channels"])


@pytest.mark.timeout(600)
def test_the_official_parser_finds_what_is_wrong(parser_folder: Path, tmp_path: Path) -> None:
    small = load_text('edge_computing Small { platform_name: "S" functions: [ reset() @edge ] }').schema
    broken = {name: copy.deepcopy(asyncapi([small])) for name in ("type", "message", "binding")}
    broken["type"]["components"]["schemas"]["wire.Status"]["type"] = "nothing"
    broken["message"]["channels"]["status"]["messages"].clear()
    broken["binding"]["operations"]["call.reset"]["bindings"]["mqtt"]["qos"] = 7
    for name, found in said(parser_folder, broken, tmp_path).items():
        assert any(one["severity"] == ERROR for one in found["problems"]), name


def document() -> Any:
    return asyncapi([harbour().schema])


def test_every_kind_of_topic_of_the_contract_has_a_channel() -> None:
    space = TopicSpace()
    found = set()
    for channel in document()["channels"].values():
        if channel["address"] is not None:
            filled = channel["address"].format(node="gw-1", severity="warning", file="ab" * 32)
            found.add(space.parse(filled).kind)
    assert found == set(Kind)


def test_addresses_follow_the_placement() -> None:
    channels = document()["channels"]
    assert channels["cmd.countShips"]["address"] == "edge/v1/{node}/cmd/countShips"
    assert channels["cmd.coordinator.planBerth"]["address"] == "edge/v1/coordinator/cmd/planBerth"
    assert {"cmd.reset", "cmd.coordinator.reset"} <= channels.keys()
    assert "cmd.planBerth" not in channels and "cmd.coordinator.countShips" not in channels
    assert channels["event.ShipArrived"]["address"] == "edge/v1/{node}/event/ShipArrived"
    assert channels["fleet.event.BerthPlanned"]["address"] == "edge/v1/fleet/event/BerthPlanned"
    assert {"event.HarbourChanged", "fleet.event.HarbourChanged"} <= channels.keys()
    assert "parameters" not in channels["cmd.coordinator.planBerth"]
    assert "node" in channels["alert"]["parameters"]


def test_one_node_needs_no_parameter() -> None:
    channels = asyncapi([harbour().schema], node="gw-7", root="t/edge")["channels"]
    assert channels["cmd.countShips"]["address"] == "t/edge/gw-7/cmd/countShips"
    assert "parameters" not in channels["cmd.countShips"]


def test_a_client_sends_commands_and_receives_the_rest() -> None:
    operations = document()["operations"]
    for name, one in operations.items():
        assert one["action"] == ("send" if name.startswith("call.") else "receive")
        assert ("reply" in one) == name.startswith("call.")
    call = operations["call.countShips"]
    assert call["reply"]["address"]["location"] == "$message.header#/responseTopic"
    assert "edge/v1/{node}/result/countShips" in call["reply"]["address"]["description"]
    assert document()["channels"]["reply.countShips"]["address"] is None
    assert call["bindings"]["mqtt"] == {
        "qos": 1, "retain": False, "messageExpiryInterval": 120, "bindingVersion": "0.2.0",
    }  # fmt: skip


def test_quality_of_service_and_retention_are_those_of_the_contract() -> None:
    operations = document()["operations"]
    for one in TELLINGS:
        mqtt = operations[f"receive.{one.kind.value.replace('/', '.')}"]["bindings"]["mqtt"]
        assert (mqtt["qos"], mqtt["retain"]) == (RULES[one.kind].qos, RULES[one.kind].retain)
    assert operations["receive.event.ShipArrived"]["bindings"]["mqtt"]["qos"] == 0


def test_what_must_not_leave_the_node_is_not_offered() -> None:
    text = json.dumps(document())
    assert "BerthPlanned" in text and "FaceSeen" not in text
    assert "harbour.berths" in text and "harbour.faces" not in text


def test_what_two_platforms_share_is_said_once_and_what_differs_apart() -> None:
    other = load_text(
        'record Ship { mast: Integer }\nedge_computing Regatta { platform_name: "R" '
        "functions: [ reset() @edge, sail(ship: Ship): Ship @edge ] events: [ Sailed(ship: Ship) @source(node) ] }",
        "regatta",
    ).schema
    made = asyncapi([harbour().schema, other])
    assert made["info"]["title"].startswith("智联港口")
    assert {"Ship", "regatta.Ship"} <= made["components"]["schemas"].keys()
    sail = made["components"]["messages"]["command.sail"]["payload"]["properties"]["ship"]
    assert sail == {"$ref": "#/components/schemas/regatta.Ship"}
    assert "cmd.coordinator.reset" in made["channels"]  # the first platform's, which is @any
    same = asyncapi([harbour().schema, harbour().schema])
    assert same == document()


@pytest.mark.parametrize("sample", every_sample())
def test_examples_are_what_the_readers_of_the_contract_take(sample: Callable[[], Loaded]) -> None:
    made = asyncapi([sample().schema])
    components = json.loads(json.dumps(made["components"]).replace("#/components/schemas/", "#/$defs/"))
    checked = 0
    for name, message in components["messages"].items():
        validator = jsonschema.Draft202012Validator({**message["payload"], "$defs": components["schemas"]})
        for one in message.get("examples", ()):
            validator.validate(one["payload"])
            kind = name.partition(".")[0]
            encoded = json.dumps(one["payload"]).encode()
            if kind in ("event", "alert"):
                node = one["payload"]["source"].rsplit("/", 1)[1]
                decode_event(Kind.ALERT if kind == "alert" else Kind.EVENT, node, encoded)
            elif kind == "result":
                assert decode_result(encoded).state.final
            checked += 1
    told = [one for one in sample().schema.events.values() if not one.personal]
    assert checked == 4 * len(sample().schema.functions) + len(told) + len(TELLINGS) - 2 + 1


def test_what_stands_beside_a_reference_is_kept() -> None:
    schema = {"properties": {"$ref": {"$ref": "#/x", "default": 1}, "b": {"items": {"$ref": "#/y", "x-unit": "m"}}}}
    assert plain_refs(schema) == {
        "properties": {
            "$ref": {"allOf": [{"$ref": "#/x"}], "default": 1},
            "b": {"items": {"allOf": [{"$ref": "#/y"}], "x-unit": "m"}},
        }
    }
    assert plain_refs({"anyOf": [{"$ref": "#/x"}, {"type": "null"}]}) == {
        "anyOf": [{"$ref": "#/x"}, {"type": "null"}]
    }
