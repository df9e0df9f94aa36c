"""One release on its way to this disk: what is known of it, and how it stands."""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from agent.models.fetching import Fetching
from agent.models.needs import Needed
from agent.models.records import Ref
from schemas.release import Release


class State(Enum):
    """Of a release that is wanted."""

    PENDING = "pending"
    REFUSED = "refused"  # for a reason that may pass, unless it is final: it is tried on
    HELD = "held"


@dataclass(slots=True)
class Job:
    """`text` is for people: how far it is, or why it is refused."""

    ref: Ref
    due_s: float  # monotonic: nothing is done before
    begun_s: float
    state: State = State.PENDING
    text: str = "waiting to be fetched"
    fetching: Fetching | None = None  # of the step it is at
    document: bytes = b""
    signature: str = ""
    release: Release | None = None
    needed: Needed | None = None
    final: bool = False  # refused for good: nothing but another wish changes that
    bytes_by: Counter[str] = field(default_factory=Counter)
    complaints: dict[str, str] = field(default_factory=dict)  # by source, as last said

    @property
    def name(self) -> str:
        return self.ref.model.partition("@")[0]

    @property
    def version(self) -> str:
        return self.ref.model.partition("@")[2]

    @property
    def is_open(self) -> bool:
        """Whether there is something to be done for it."""
        return self.state is not State.HELD and not self.final
