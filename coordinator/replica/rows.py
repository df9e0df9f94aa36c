"""What each of several coordinators does all the time: its share of the rows, stored and answered."""

from collections.abc import Callable, Sequence

from coordinator.counters import Counters
from coordinator.fleet.registry import Fleet, LivenessRules
from coordinator.ingest.batch import BatchLimits
from coordinator.ingest.inbox import Inbox
from coordinator.ingest.ingest import Ingest
from coordinator.link.links import BrokerName, Links
from coordinator.link.subscriber import Part
from coordinator.state.judge import Judge
from coordinator.store.sql import SqlStore
from platforms.assembly import Assembly
from runtime.restart import RestartPolicy
from runtime.supervision import Supervisor
from schemas.topics import TopicSpace

DRAIN_S = 10.0
GOODBYE_S = 4.0
CLIENT = ".rows"  # after the client id


class RowTaker:
    """Intake, ingest and answers of rows; of the fleet it knows nothing, and needs nothing."""

    def __init__(
        self,
        brokers: Sequence[BrokerName],
        store: SqlStore,
        assembly: Assembly,
        *,
        client_id: str,
        space: TopicSpace,
        limits: BatchLimits,
    ) -> None:
        self._counters = Counters()
        self._inbox = Inbox(self._counters, len(brokers))
        fleet = Fleet([], LivenessRules(), 0)
        self._ingest = Ingest(store, fleet, self._inbox, self._counters, space, limits, assembly.catalogue)
        self._ingest.judge = Judge(assembly.collections)
        self._links = Links(
            brokers, self._inbox, None, self._counters, store,
            client_id=client_id + CLIENT, space=space, part=Part.ROWS,
        )  # fmt: skip

    def start(self, supervisor: Supervisor, on_link: Callable[[], None]) -> None:
        """Its tasks; `on_link` is told when a broker comes or goes."""
        self._links.on_link = lambda index, connected: on_link()
        stop = self._inbox.close
        supervisor.supervise("rows", self._ingest.run, stage=1, stop=stop, stop_timeout_s=DRAIN_S)
        for name, link, stop in self._links.tasks():
            for_ever = RestartPolicy(restarts_max=None)
            supervisor.supervise(f"rows-{name}", link, for_ever, stage=2, stop=stop, stop_timeout_s=GOODBYE_S)

    @property
    def problem(self) -> str:
        """What keeps it from its work; empty for nothing."""
        if self._ingest.problem:
            return f"cannot store: {self._ingest.problem}"
        return "" if self._links.is_connected else f"waiting for the broker: {self._links.problem or 'connecting'}"

    def figures(self) -> dict[str, float]:
        """Counted since the start of the process."""
        return {
            **self._counters.snapshot(),
            **self._ingest.figures(),
            **self._links.figures(),
            "queue_depth": float(len(self._inbox)),
        }
