"""What a gateway is made of. `wire` makes it, `agent/self_report.py` tells of it, `agent/agent.py` lets it live."""

import secrets
from typing import IO

from agent.actions.actions import Actions
from agent.alerting.alerting import Alerting
from agent.capture.slot import Slots
from agent.config import AgentConfig
from agent.degrade.governor import Governor
from agent.degrade.switches import Switches
from agent.documents.documents import Documents
from agent.documents.in_force import InForce
from agent.documents.journal import Journal
from agent.evidence.evidence import Evidence
from agent.evidence.uploader import Uploader
from agent.health.figures import Meters
from agent.hosting.pipelines import NodePipelines
from agent.infer.worker import InferenceWorker, Work
from agent.link.asking import Asking
from agent.link.link import Link
from agent.link.sender import Sender
from agent.models.models import Models
from agent.notes import Notes
from agent.outbox.checked import Checked
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.platform_state.platform_state import PlatformState
from agent.results.recorder import Recorder
from agent.sensors.sensors import Sensors
from agent.stages.stages import Stages
from agent.state import StateFile
from agent.stream import Stream
from agent.sync.sync import Sync
from agent.workloads.store import WorkloadsFile
from agent.workloads.workloads import Workloads
from platforms.assembly import Assembly
from platforms.host_context import Host
from platforms.listening import Listening
from runtime.calls.dispatcher import Dispatcher
from schemas.topics import TopicSpace


class Parts:
    """Of one gateway, in the order in which they are made; a part that is not made yet is no attribute yet."""

    def __init__(self, config: AgentConfig, assembly: Assembly) -> None:
        self.config = config
        self.assembly = assembly  # of the platforms
        self.platform_problems: list[str] = []  # at the start of their host
        # With their secrets, which may be missing: that is found out before any file is opened.
        self.addresses = config.broker.addresses()
        self.cameras = [camera.resolved() for camera in config.cameras]
        self.space = TopicSpace(config.broker.topic_root)
        self.instance = secrets.token_hex(8)  # of this start: two that live at once are two agents
        self.slots: Slots[Work] = Slots()
        self.switches = Switches()
        self.streams: dict[str, Stream] = {}  # by camera
        self.evidence: Evidence | None = None
        self.uploader: Uploader | None = None  # there is one with the evidence

    # ---- what is kept, and what everybody needs
    lock: IO[str]  # of the data folder
    state: StateFile
    file: OutboxFile
    outbox: Outbox
    checked: Checked
    notes: Notes
    meters: Meters
    platform_state: PlatformState

    # ---- a frame's way
    worker: InferenceWorker
    recorder: Recorder
    sync: Sync
    stages: Stages

    # ---- what platforms see
    pipelines: NodePipelines
    host: Host
    listening: Listening
    sensors: Sensors

    # ---- what is done here
    workloads_file: WorkloadsFile
    workloads: Workloads
    actions: Actions
    alerting: Alerting
    governor: Governor

    # ---- the way out, and what comes back
    sender: Sender
    dispatcher: Dispatcher
    link: Link
    asking: Asking
    models: Models
    in_force: InForce
    journal: Journal
    documents: Documents

    @property
    def boot(self) -> int:
        """The number of this start."""
        return self.state.boot
