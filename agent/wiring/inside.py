"""From the cameras to the outbox: what is kept, a frame's way, and what is done here with what was seen."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.actions.actions import Actions
from agent.actions.local_broker import LocalBroker
from agent.alerting.opening import open_alerting
from agent.config import PipelineConfig, what_is_here
from agent.degrade.governor import Governor
from agent.evidence.opening import open_evidence
from agent.health import host
from agent.health.figures import Meters
from agent.hosting.cameras import NodeCameras
from agent.hosting.host import kept_result, node_host
from agent.hosting.pipelines import NodePipelines
from agent.infer.bundle import Bundle
from agent.infer.worker import InferenceWorker, Work
from agent.link.gate import RateGate
from agent.lock import only_one
from agent.notes import Notes
from agent.outbox.ballast import FILE_NAME as BALLAST
from agent.outbox.ballast import Ballast
from agent.outbox.checked import Checked
from agent.outbox.opening import open_outbox
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from agent.platform_state.platform_state import PlatformState
from agent.platform_state.store import ValuesFile
from agent.platform_state.tables import FILE_NAME as PLATFORM_STATE
from agent.results.recorder import Recorder
from agent.sensors.sensors import Sensors
from agent.stages.stages import Stages
from agent.state import StateFile
from agent.stream import Stream
from agent.streams import deliver, set_paces, standings
from agent.sync.sync import Sync
from agent.wiring.parts import Parts
from agent.workloads.opening import model_finder, open_workloads
from agent.workloads.store import FILE_NAME as WORKLOADS
from agent.workloads.store import WorkloadsFile
from agent.workshop import Workshop
from platforms import services as interfaces
from platforms.settings import read_platforms

log = logging.getLogger(__name__)


def keep(parts: Parts) -> None:
    """The files first: whoever cannot keep anything does not start."""
    config, node = parts.config, parts.config.node
    parts.lock = only_one(node.data_dir)
    if Ballast(node.data_dir / BALLAST, config.outbox.ballast_bytes).give_way():  # files want room to be opened
        log.warning("%s is full: the room kept in reserve is given up, to be able to start", node.data_dir)
    parts.state = StateFile(node.data_dir / "state.db")
    parts.file, salvaged = open_outbox(
        node.data_dir / "outbox.db", node=node.id, boot=parts.boot, settings=config.outbox
    )
    parts.outbox = Outbox(parts.file)
    parts.checked = parts.outbox.checked = Checked(parts.assembly.catalogue)
    parts.outbox.on_append = lambda drafts: _appending(parts, drafts)
    parts.outbox.on_committed = lambda rows: _committed(parts, rows)
    parts.notes = Notes(parts.outbox)
    parts.meters = Meters(parts.file, node.data_dir)
    parts.platform_state = PlatformState(
        ValuesFile(node.data_dir / PLATFORM_STATE, node.id),
        parts.assembly.collections,
        config.state,
        parts.outbox,
        node=node.id,
    )
    if salvaged is not None:
        parts.notes.announce("OutboxSalvaged", "outbox", asdict(salvaged))


# ---- a frame's way ------------------------------------------------------------------------------


def infer(parts: Parts) -> None:
    """The one thread in which models run."""
    slots = parts.slots

    def take(timeout_s: float) -> Work | None:
        taken = slots.take(timeout_s)
        return None if taken is None else taken[1]

    parts.worker = InferenceWorker(take, lambda result: deliver(parts.streams, result))


def let_out(parts: Parts) -> None:
    """What is kept of each result here, and what leaves."""
    config = parts.config
    parts.recorder = Recorder(
        config.node.data_dir / "results.db", config.results, parts.switches, parts.notes.announce
    )
    parts.sync = Sync(
        config.sync,
        rate=RateGate(config.link),
        outbox=parts.outbox,
        recorder=parts.recorder,
        state=parts.state,
        switches=parts.switches,
        act=lambda drafts: _act(parts, drafts),
        announce=parts.notes.announce,
    )


def see(parts: Parts) -> None:
    """The cameras, with what happens beside each frame."""
    config = parts.config
    parts.evidence = open_evidence(
        config.evidence,
        config.node.data_dir,
        [camera.id for camera in config.cameras],
        private=frozenset(pipeline.camera for pipeline in config.pipelines if pipeline.local_only),
        outbox=parts.outbox,
        switches=parts.switches,
        announce=parts.notes.announce,
    )
    parts.stages = Stages(
        parts.assembly.stages,
        config.pipelines,
        node=config.node.id,
        broker=config.local_broker.address(),
        outbox=parts.outbox,
        evidence=parts.evidence,
    )

    def load(pipeline: PipelineConfig) -> Bundle:
        """What a pipeline starts with; in a thread."""
        parts.stages.load(pipeline)
        return parts.models.load(pipeline)

    workshop = Workshop(
        infer=config.inference,
        slots=parts.slots,
        worker=parts.worker,
        outbox=parts.outbox,
        announce=parts.notes.announce,
        boot=parts.boot,
        switches=parts.switches,
        sync=parts.sync,
        evidence=parts.evidence,
        load=load,
        seat=parts.stages.seat,
        kinds=parts.assembly.rule_kinds,
    )
    for camera in parts.cameras:
        own = [pipeline for pipeline in config.pipelines if pipeline.camera == camera.id]
        parts.streams[camera.id] = Stream(camera, own, workshop)


# ---- what is done with what was seen ------------------------------------------------------------


def host_platforms(parts: Parts) -> None:
    """What functions, listeners and sensors of platforms have of this node."""
    config, node = parts.config, parts.config.node
    parts.pipelines = NodePipelines(
        parts.streams,
        config.pipelines,
        parts.state,
        model_finder(config, lambda reference: parts.models.folder_of(reference)),
        lambda: parts.documents,
        lambda: parts.workloads.reports(),
        lambda name: parts.workloads.is_at_work(name),
    )
    services: dict[type[Any], Any] = {
        interfaces.Cameras: NodeCameras(parts.streams),
        interfaces.Pipelines: parts.pipelines,
        interfaces.Stages: parts.stages,
    }
    parts.host = node_host(
        node.id,
        results_path=parts.recorder.path,
        outbox=parts.outbox,
        state=parts.platform_state,
        settings=read_platforms(config.platforms, Path())[0].settings,
        services=services,
        keep=parts.recorder.keep,
        here=what_is_here(config),
    )
    parts.listening = parts.assembly.listening(parts.host)
    parts.sensors = services[interfaces.Sensors] = Sensors(
        config.sensors,
        node=node.id,
        local=config.local_broker.address(),
        fleet=parts.addresses[0],
        announce=parts.notes.announce,
        measured=parts.listening.measured,
    )


def run_workloads(parts: Parts) -> None:
    """What the coordinator has this node run beside its own."""
    data_dir = parts.config.node.data_dir
    parts.workloads_file = WorkloadsFile(data_dir / WORKLOADS, set_aside=True)
    parts.workloads = open_workloads(
        parts.config,
        parts.workloads_file,
        parts.streams,
        parts.notes.announce,
        host.resources(data_dir),
        lambda *call: parts.dispatcher.call_here(*call),
        lambda: parts.dispatcher.names,
        lambda reference: parts.models.folder_of(reference),
        parts.assembly.stages,
    )


def react(parts: Parts) -> None:
    """Alerts and local actions."""
    config, node = parts.config, parts.config.node
    parts.actions = Actions(
        config.actions,
        node=node.id,
        boot=parts.boot,
        topic_root=config.broker.topic_root,
        broker=LocalBroker(config.local_broker.address(), f"{node.id}-actions"),
        announce=parts.notes.announce,
    )
    parts.alerting = open_alerting(
        config,
        parts.assembly,
        boot=parts.boot,
        outbox=parts.outbox,
        state=parts.platform_state,
        streams=parts.streams,
        actions=parts.actions,
        recorder=parts.recorder,
    )


def do_less(parts: Parts) -> None:
    """What is given up when the machine is short of something."""
    parts.governor = Governor(
        parts.config.degradation,
        read=parts.meters.shortages,
        standings=lambda: standings(parts.streams),
        apply=lambda paces: set_paces(parts.streams, paces),
        switches=parts.switches,
        announce=parts.notes.announce,
    )


# ---- what the outbox tells ----------------------------------------------------------------------


def _act(parts: Parts, drafts: Sequence[Draft]) -> None:
    """Facts of this moment, whether they leave the node or not."""
    parts.actions.trigger(parts.alerting.heard(drafts))


def _appending(parts: Parts, drafts: Sequence[Draft]) -> None:
    """They are about to be stored: what is to be done at once is done first."""
    _act(parts, drafts)
    if parts.evidence is not None:
        parts.evidence.expect(drafts)
    for draft in drafts:
        if parts.listening.wants(draft.type):
            parts.listening.heard(kept_result(parts.config.node.id, draft))


def _committed(parts: Parts, rows: list[Row]) -> None:
    parts.sender.committed(rows)  # first: nothing of the rest is urgent
    if parts.evidence is not None:
        parts.evidence.committed(rows)
