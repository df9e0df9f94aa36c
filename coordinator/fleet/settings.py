"""The `[fleet]` table of `coordinator.toml`."""

from dataclasses import dataclass
from typing import Annotated

from coordinator.fleet.condition import ConditionRules
from coordinator.fleet.flapping import FlapRules
from coordinator.fleet.guard import RETURNING_MS, GuardRules
from coordinator.fleet.probe import ProbeRules
from coordinator.fleet.registry import FleetRules
from schemas.shape import Limit

Share = Annotated[float, Limit(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class FleetTable:
    """When nodes are busy, when they flap, and when so many are away that none is taken for lost."""

    busy_above: Share = 0.85
    busy_below: Share = 0.70
    outage_window_s: Annotated[float, Limit(ge=1, le=3600)] = 60.0
    outage_site_share: Share = 0.2
    outage_site_nodes: Annotated[int, Limit(ge=1, le=1_000_000)] = 4
    outage_fleet_share: Share = 0.05
    outage_fleet_nodes: Annotated[int, Limit(ge=1, le=1_000_000)] = 10
    outage_calm_s: Annotated[float, Limit(ge=0, le=3600)] = 30.0
    outage_max_s: Annotated[float, Limit(ge=1, le=86_400)] = 900.0
    probe_s: Annotated[float, Limit(ge=1, le=3600)] = 10.0
    probe_lost_s: Annotated[float, Limit(ge=1, le=3600)] = 15.0
    flap_half_life_s: Annotated[float, Limit(ge=1, le=86_400)] = 900.0
    flaps_above: Annotated[float, Limit(ge=1, le=100)] = 2.5
    steady_below: Annotated[float, Limit(ge=0.02, le=100)] = 0.75

    @property
    def rules(self) -> FleetRules:
        calm_ms = round(self.outage_calm_s * 1000)
        guard = GuardRules(
            window_ms=round(self.outage_window_s * 1000),
            site_share_max=self.outage_site_share,
            site_count_min=self.outage_site_nodes,
            fleet_share_max=self.outage_fleet_share,
            fleet_count_min=self.outage_fleet_nodes,
            calm_ms=calm_ms,
            returning_ms=min(RETURNING_MS, calm_ms),
            freeze_max_ms=round(self.outage_max_s * 1000),
        )
        flapping = FlapRules(
            half_life_ms=round(self.flap_half_life_s * 1000),
            flaps_above=self.flaps_above,
            steady_below=self.steady_below,
            penalty_max=max(6.0, 2 * self.flaps_above),
        )
        return FleetRules(guard, flapping, ConditionRules(self.busy_above, self.busy_below))

    @property
    def probe(self) -> ProbeRules:
        return ProbeRules(round(self.probe_s * 1000), round(self.probe_lost_s * 1000))

    def mistakes(self) -> list[str]:
        """What the shape alone does not show."""
        found = []
        if self.busy_below > self.busy_above:
            found.append("fleet.busy_below: must not be above busy_above")
        if self.steady_below >= self.flaps_above:
            found.append("fleet.steady_below: must be below flaps_above")
        return found
