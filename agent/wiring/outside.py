"""From the outbox to the brokers and back: rows, calls, files, models and documents."""

import time

from agent.alerting.functions import alert_functions
from agent.alerting.opening import normal_arguments
from agent.documents.documents import Documents
from agent.documents.here import here
from agent.documents.in_force import InForce
from agent.documents.journal import FILE_NAME as DOCUMENTS
from agent.documents.journal import Journal
from agent.evidence.functions import evidence_functions
from agent.evidence.uploader import Uploader
from agent.health import host
from agent.hosting.pipelines import stop_function
from agent.link.asking import Asking
from agent.link.link import Link
from agent.link.sender import Sender
from agent.models.models import Models
from agent.models.signatures import read_trust
from agent.node_functions import STATE, node_functions, report_function
from agent.self_report import SelfReport
from agent.sync.command import sync_function
from agent.wiring.parts import Parts
from agent.workloads.opening import workload_logs
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.hosted import table_of
from schemas.messages import Birth
from schemas.sync import SyncPolicy
from schemas.topics import Kind


def send(parts: Parts) -> None:
    """Rows on their way to the link, as the sync policy lets them."""
    config, sync = parts.config, parts.sync
    sender = parts.sender = Sender(
        parts.file,
        node=config.node.id,
        boot=parts.boot,
        space=parts.space,
        resend_after_s=config.node.resend_after_s,
        settings=config.link,
        gate=sync.gate,
    )

    def follow(policy: SyncPolicy) -> None:
        sender.compress(policy.compress)

    def gate_changed() -> None:
        """Whoever was told to wait asks again."""
        sender.wake()
        if parts.uploader is not None:
            parts.uploader.wake()

    follow(sync.policy)
    sync.on_policy = follow
    sync.gate.on_change = gate_changed


def answer(parts: Parts, says: SelfReport) -> None:
    """The functions of the node and of its platforms, by MQTT command."""
    assembly, streams, node = parts.assembly, parts.streams, parts.config.node.id

    def again(document: str) -> None:
        if document == STATE:
            parts.platform_state.say_again()
            return
        (parts.link.announce if document == Kind.BIRTH.value else parts.link.publish_reported)()

    functions = [
        workload_logs(parts.workloads),
        stop_function(parts.pipelines),
        *alert_functions(parts.alerting, node, streams, parts.actions.names, normal_arguments(assembly)),
        *node_functions(streams, says.status),
        report_function(again),
        sync_function(parts.sync),
    ]
    if parts.evidence is not None:
        functions += evidence_functions(parts.evidence)
    table = table_of(functions, assembly.hosting(parts.host), assembly)
    parts.dispatcher = Dispatcher(table, parts.state.journal, responder=node, space=parts.space)


def talk(parts: Parts, says: SelfReport) -> None:
    """The connection, and the calls that the node itself makes over it."""
    config, node = parts.config, parts.config.node
    parts.link = Link(
        parts.addresses,
        parts.sender,
        parts.dispatcher,
        node=node.id,
        boot=parts.boot,
        space=parts.space,
        birth=says.birth,
        heartbeat=says.heartbeat,
        heartbeat_s=node.heartbeat_s,
        rules=config.link.broker_rules,
        announce=parts.notes.announce,
        instance=parts.instance,
    )
    parts.asking = parts.link.arrivals.calls = Asking(parts.link, node.id, parts.space)


def upload(parts: Parts) -> None:
    """The way out of pictures and clips."""
    if parts.evidence is None:
        return
    config = parts.config
    uploader = parts.uploader = parts.link.arrivals.files = Uploader(
        config.evidence,
        parts.evidence.store,
        parts.link,
        parts.sync.gate,
        node=config.node.id,
        space=parts.space,
        resend_after_s=config.node.resend_after_s,
        announce=parts.notes.announce,
    )
    parts.evidence.on_stored, parts.evidence.on_asked = uploader.wake, uploader.asked


# ---- what the node should be --------------------------------------------------------------------


def serve_models(parts: Parts) -> None:
    """Releases that lie here, and which of them runs in which pipeline."""
    config, data_dir = parts.config, parts.config.node.data_dir
    parts.models = Models(
        config.models,
        data_dir,
        read_trust(config.models.trusted_keys),
        birth=lambda: Birth(hardware=host.hardware(), resources=host.resources(data_dir)),
        streams=lambda: parts.streams,
        asking=parts.asking,
        link_is_metered=lambda: parts.sync.gate.reason(time.monotonic()) == "metered",
        announce=parts.notes.announce,
    )


def follow_documents(parts: Parts) -> None:
    """Desired and reported documents, and who follows them."""
    node, link, workloads, models = parts.config.node, parts.link, parts.workloads, parts.models
    parts.in_force = InForce(parts.streams, link, node.labels, models.follow)
    parts.journal = Journal(node.data_dir / DOCUMENTS, node.id, set_aside=True)
    documents = parts.documents = Documents(
        parts.journal,
        here(parts.config),
        boot=parts.boot,
        apply=parts.in_force.apply,
        mute=lambda rules: _mute(parts, rules),
    )
    documents.publish = link.publish_reported
    documents.on_sync_policy = parts.sync.follow
    documents.on_workloads = workloads.follow
    documents.standings += [workloads.fields, models.standing]
    workloads.changed, workloads.on_allocated = documents.restate, link.announce
    models.on_change = documents.restate
    link.arrivals.on_desired, link.reported = documents.receive, documents.payload


def _mute(parts: Parts, rules: frozenset[str]) -> None:
    parts.in_force.mute(rules)
    parts.alerting.mute(rules)
