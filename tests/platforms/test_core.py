"""The schema of core says what the code says: the messages field by field, the functions, the events."""

import dataclasses
import enum
import functools
import re
import types
import typing
from pathlib import Path
from typing import Any, Union

import pytest

from agent.actions.settings import EVENT_TYPES, Do
from agent.alerting.asked import TriggerAlert
from agent.alerting.functions import AckAlert, ListAlerts, RemoveAlert
from agent.capture.camera import CameraState
from agent.decide.facts import AlertState
from agent.evidence.functions import ListEvidence, UploadEvidence
from agent.evidence.tables import State
from agent.hosting.pipelines import StopVideoStream
from agent.node_functions import DOCUMENTS, STATE, OfCamera, ReportOf, SnapshotOf
from agent.sync.command import SyncCall
from agent.workloads.opening import LogsOf
from coordinator.documents.documents import SetDesired
from coordinator.fleet.functions import AddMaintenance, Admit, Deregister, EndMaintenance
from coordinator.fleet.node import Shown
from coordinator.models.reading import ReadBlob
from coordinator.models.registry import ReadSignature, SignModel
from coordinator.rollout import state as rollout_state
from coordinator.rollout.arguments import AbortOf, OfRollout, StatusOf
from coordinator.rollout.deploy_model import DeployModel
from coordinator.rollout.plan import Ahead, OnFailure, Plan
from coordinator.schedule.arguments import DrainNode, OfWorkload, ScaleTo, UndrainNode, WhyOf, WorkloadStatusOf
from coordinator.schedule.workload import Metric, Scale, Spread, UpdateRules, Workload
from coordinator.store.rollouts import RolloutNodeView, RolloutView
from coordinator.store.schedule_views import PlacementView, WorkloadView
from platforms.catalogue import open_catalogue
from schemas import blobs, documents, fields, messages, sync, workloads
from schemas.language.schema import (
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    Nullable,
    Placement,
    RecordType,
    Scalar,
    Type,
)
from schemas.language.validators import Validators
from schemas.shape import Limit, fields_of

CORE = open_catalogue().schemas[0]
VALIDATORS = Validators(CORE)
ROOT = Path(__file__).resolve().parents[2]
SCALARS = {int: Kind.INTEGER, float: Kind.FLOAT, str: Kind.STRING, bool: Kind.BOOLEAN}

# In the head of a chunk there are no bytes; the other two never travel as they are.
ELSEWHERE = {"data": blobs.Chunk}
NOT_ON_THE_WIRE = {messages.Event, messages.Command, documents.Write}
# Under the names that platforms use.
RENAMED: dict[type, str] = {
    rollout_state.State: "Rollout_State", rollout_state.NodeState: "Rollout_Node_State",
    messages.Severity: "Alert_Level", AlertState: "Alert_State", State: "Evidence_State", Do: "Action_Kind",
    Spread: "Workload_Spread", Scale: "Workload_Scale", UpdateRules: "Workload_Update",
    CameraState: "Camera_State", blobs.Reason: "Reason", fields.Rule: "Rule",
}  # fmt: skip


def of_module(module: types.ModuleType, kind: Any) -> list[type]:
    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    return [one for one in own if kind(one) and one not in NOT_ON_THE_WIRE]


MODULES = (messages, documents, blobs, sync, workloads)
RECORDS = [one for module in MODULES for one in of_module(module, dataclasses.is_dataclass)]
ENUMS = [one for module in MODULES for one in of_module(module, lambda one: issubclass(one, enum.Enum))]
BY_NAME = {name.replace("_", ""): name for name in CORE.types}


def name_of(cls: type) -> str:
    return RENAMED.get(cls) or BY_NAME[cls.__name__]


def same(type_: Type, annotation: Any, where: str) -> None:
    """Asserts that both mean the same values."""
    bare, origin, args = CORE.bare(type_), typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        assert limits_of(bare) == functools.reduce(both, map(limits, args[1:])), where
        same(bare, args[0], where)
    elif annotation is Any:
        assert bare in (Scalar(Kind.JSON), Nullable(Scalar(Kind.JSON))), where
    elif origin in (Union, types.UnionType):
        assert isinstance(bare, Nullable) and type(None) in args, where
        same(bare.inner, args[0], where)
    elif origin in (list, tuple):
        assert isinstance(bare, ListOf), where
        same(bare.item, args[0], where)
    elif origin is dict:
        assert isinstance(bare, MapOf) and CORE.bare(bare.key) == Scalar(Kind.STRING), where
        same(bare.value, args[1], where)
    elif annotation in SCALARS:
        moment = where.endswith("_utc_ms") and isinstance(bare, Scalar) and bare.kind is Kind.TIMESTAMP
        assert isinstance(bare, Scalar) and (bare.kind is SCALARS[annotation] or moment), where
    else:
        assert CORE.named(type_) == CORE.types[name_of(annotation)], where


def limits_of(type_: Type) -> Limits:
    return limits_of(type_.inner) if isinstance(type_, Nullable) else type_.limits  # type: ignore[union-attr]


def limits(limit: Limit) -> Limits:
    most = limit.le if limit.lt is None or limit.lt >= 2**63 else limit.lt - 1
    return Limits(limit.ge, most, limit.len_min, limit.len_max, limit.pattern or "")


def both(one: Limits, other: Limits) -> Limits:
    return one.within(other)


def default_of(one: "dataclasses.Field[Any]") -> Any:
    made: Any = one.default_factory
    return one.default if made is dataclasses.MISSING else made()


def compare(declared: tuple[Field, ...], cls: type) -> None:
    hints = typing.get_type_hints(cls, include_extras=True)
    ours = [one for one in dataclasses.fields(cls) if ELSEWHERE.get(one.name) is not cls]
    assert [one.name for one in declared] == [one.name for one in ours]
    for field, one in zip(declared, ours, strict=True):
        where = f"{cls.__name__}.{one.name}"
        same(field.type, hints[one.name], where)
        assert field.required == (one.default is one.default_factory), where  # both MISSING
        if not field.required:
            default = default_of(one)
            read = None if field.default is None else VALIDATORS.type(field.type)(field.default)
            assert read == fields_of(default), where


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_a_record_is_its_dataclass(cls: type) -> None:
    record = CORE.types[name_of(cls)]
    assert isinstance(record, RecordType)
    compare(record.fields, cls)


@pytest.mark.parametrize(
    "cls",
    [
        *ENUMS,
        fields.Rule,
        AlertState,
        State,
        Do,
        CameraState,
        Ahead,
        OnFailure,
        rollout_state.State,
        rollout_state.NodeState,
        Metric,
    ],
    ids=lambda cls: cls.__name__,
)
def test_an_enum_has_the_same_values(cls: type[enum.Enum]) -> None:
    declared = CORE.types[name_of(cls)]
    assert isinstance(declared, EnumType)
    assert [one.wire for one in declared.choices] == [one.value for one in cls]


@pytest.mark.parametrize("cls", [Spread, Scale, UpdateRules], ids=lambda cls: cls.__name__)
def test_a_rule_of_a_workload_is_its_dataclass(cls: type) -> None:
    record = CORE.types[name_of(cls)]
    assert isinstance(record, RecordType)
    assert [one.name for one in record.fields] == [one.name for one in dataclasses.fields(cls)]
    for declared, one in zip(record.fields, dataclasses.fields(cls), strict=True):
        assert declared.required == (one.default is one.default_factory), one.name


@pytest.mark.parametrize(
    "cls", [RolloutView, RolloutNodeView, WorkloadView, PlacementView], ids=lambda cls: cls.__name__
)
def test_what_is_shown_of_a_rollout_is_declared(cls: type) -> None:
    record = CORE.types[name_of(cls)]
    assert isinstance(record, RecordType)
    assert [one.name for one in record.fields] == [one.name for one in dataclasses.fields(cls)]


def test_every_state_of_a_node_is_declared() -> None:
    declared = CORE.types["Node_Status"]
    assert isinstance(declared, EnumType)
    assert {one.value for one in Shown} == {one.wire for one in declared.choices}


# ---- functions ----------------------------------------------------------------------------------

CALLS = {
    "startStream": OfCamera, "stopStream": OfCamera, "snapshot": SnapshotOf, "report": ReportOf,
    "syncDataToCloud": SyncCall, "workloadLogs": LogsOf, "stopVideoStream": StopVideoStream,
    "listEvidence": ListEvidence, "uploadEvidence": UploadEvidence,
    "setDesired": SetDesired, "deregisterNode": Deregister, "admitNode": Admit, "addMaintenance": AddMaintenance,
    "endMaintenance": EndMaintenance, "startRollout": Plan, "pauseRollout": OfRollout, "resumeRollout": OfRollout,
    "abortRollout": AbortOf, "rolloutStatus": StatusOf, "applyWorkload": Workload, "scaleWorkload": ScaleTo,
    "removeWorkload": OfWorkload, "workloadStatus": WorkloadStatusOf, "whyWorkload": WhyOf, "drainNode": DrainNode,
    "undrainNode": UndrainNode, "deployModel": DeployModel, "readBlob": ReadBlob,
    "readSignature": ReadSignature, "signModel": SignModel,
    "triggerAlert": TriggerAlert, "ackAlert": AckAlert, "listAlerts": ListAlerts, "removeAlert": RemoveAlert,
}  # fmt: skip
SOON = {"updateFirmware"}
SAMPLES: dict[str, Any] = {
    "for_s": 60.0, "replicas": 2, "type": "container",
    "sha256": "ab" * 32, "digest": "ab" * 32, "model": {"model_id": "finder"}, "target_nodes": {},
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_function_takes_the_arguments_it_is_called_with(name: str) -> None:
    parameters, cls = CORE.functions[name].parameters, CALLS[name]
    ours = dataclasses.fields(cls)
    assert [one.name for one in parameters] == [one.name for one in ours]
    for parameter, one in zip(parameters, ours, strict=True):
        assert parameter.required == (one.default is one.default_factory), one.name
    required = {one.name for one in parameters if one.required}
    found = VALIDATORS.arguments(name)({one: SAMPLES.get(one, "gw-1") for one in required})
    for one in ours:
        if one.name not in required and name not in ("syncDataToCloud", "triggerAlert"):
            assert found[one.name] == fields_of(default_of(one))


def test_documents_of_a_report_and_placements() -> None:
    document = CORE.types["Document"]
    assert isinstance(document, EnumType) and [one.wire for one in document.choices] == [*DOCUMENTS, STATE]
    assert CORE.functions["status"].placement is CORE.functions["cancel"].placement is Placement.ANY
    assert {name for name, one in CORE.functions.items() if one.placement is Placement.CLOUD} == {
        "setDesired", "deployModel", "updateFirmware", "deregisterNode", "admitNode", "addMaintenance",
        "endMaintenance", "startRollout", "pauseRollout", "resumeRollout", "abortRollout", "rolloutStatus",
        "readBlob", "readSignature", "signModel",
        "applyWorkload", "scaleWorkload", "removeWorkload", "workloadStatus", "whyWorkload", "drainNode",
        "undrainNode",
    }  # fmt: skip
    assert set(CORE.functions) == {*CALLS, *SOON, "status", "cancel"}
    assert all("nothing is bound to it yet" in CORE.functions[name].doc for name in SOON)


# ---- events -------------------------------------------------------------------------------------


def test_every_event_that_the_code_tells_is_declared() -> None:
    said = r"""(?:announce|EventFact|FleetEvent|_event|tell|_tell)\(\s*"([A-Z]\w+)"|Draft\([\w.]+, "([A-Z]\w+)\""""
    found = set(EVENT_TYPES)
    for folder in ("agent", "coordinator"):
        for path in (ROOT / folder).rglob("*.py"):
            for names in re.findall(said, path.read_text(encoding="utf-8")):
                found.update(name for name in names if name)
    assert {"LineCrossed", "StreamSample", "NodeRegistered", "DesiredApplied", "EvidenceStored"} <= found
    assert found <= set(CORE.events), found - set(CORE.events)


def test_every_declared_event_is_told_or_said_to_be_for_later() -> None:
    folders = (ROOT / "agent").rglob("*.py"), (ROOT / "coordinator").rglob("*.py"), (ROOT / "schemas").glob("*.py")
    code = "".join(path.read_text("utf-8") for files in folders for path in files)
    for name, event in CORE.events.items():
        assert f'"{name}"' in code or "nobody tells it yet" in event.doc, name


def test_what_the_platforms_of_the_seed_say_of_shared_events_is_satisfied() -> None:
    for name, wanted in {
        "NodeRegistered": ("node_id", "location"),
        "CloudSyncCompleted": ("bytes_synced", "duration_ms"),
        "ModelDeployed": ("model_id", "node_count"),
    }.items():
        assert set(wanted) <= {one.name for one in CORE.events[name].fields}
