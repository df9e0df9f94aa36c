"""The `[link]` table, and the further brokers: how much of the line the agent takes, and which line."""

from dataclasses import dataclass
from typing import Annotated

from agent.link.brokers import BrokerRules
from runtime.config import BrokerConfig, EndpointConfig
from runtime.mqtt import BrokerAddress
from schemas.shape import Limit

FALLBACKS_MAX = 7


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Rates of 0 are no limit. Life-cycle events and alerts never wait for a rate; what follows them does."""

    live_share: Annotated[float, Limit(ge=0.1, le=0.9)] = 0.7
    bytes_s_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    messages_s_max: Annotated[int, Limit(ge=0, lt=2**30)] = 0
    burst_s: Annotated[float, Limit(ge=0.1, le=60)] = 1.0
    answer_target_s: Annotated[float, Limit(ge=0.02, le=10)] = 0.1
    # With several brokers.
    probe_s: Annotated[float, Limit(ge=1, le=86400)] = 30.0
    return_after_s: Annotated[float, Limit(ge=1, le=86400)] = 120.0
    silent_after_s: Annotated[float, Limit(ge=5, le=86400)] = 120.0

    @property
    def broker_rules(self) -> BrokerRules:
        return BrokerRules(self.probe_s, self.return_after_s, self.silent_after_s)


@dataclass(frozen=True, slots=True)
class BrokersConfig(BrokerConfig):
    """The agent's `[broker]` table: the broker that is preferred, and those that stand in for it, in order."""

    fallbacks: Annotated[tuple[EndpointConfig, ...], Limit(len_max=FALLBACKS_MAX)] = ()

    def addresses(self) -> list[BrokerAddress]:
        """All of them, the preferred one first, with their passwords read. Raises ConfigError."""
        others = [table.address(f"broker.fallbacks[{i}]") for i, table in enumerate(self.fallbacks)]
        return [self.address(), *others]

    def mistakes(self) -> list[str]:
        """A broker that is named twice: it would stand in for itself."""
        places: dict[tuple[str, int], str] = {(self.host, self.port): "broker"}
        found = []
        for i, table in enumerate(self.fallbacks):
            where = f"broker.fallbacks[{i}]"
            if table and (first := places.setdefault((table.host, table.port), where)) != where:
                found.append(f"{where}: {table.host}:{table.port} is {first} already")
        return found
