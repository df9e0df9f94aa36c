"""The frequencies at which the faults of a rolling bearing knock.

Harris, Rolling Bearing Analysis (5th ed., 2006): inner ring turns, outer ring stands, nothing slides. In a real
bearing the rolling elements slip by up to some 2 %, so the frequencies are looked for around these values.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Where the damage is, named by its frequency."""

    BPFO = "bpfo"  # outer ring: each rolling element that passes
    BPFI = "bpfi"  # inner ring
    BSF = "bsf"  # rolling element: it knocks on both rings, so twice the spin frequency is what is heard
    FTF = "ftf"  # cage


@dataclass(frozen=True, slots=True)
class Bearing:
    """Its geometry. Diameters in one unit, whichever; the contact angle in degrees."""

    elements: int
    element_diameter: float
    pitch_diameter: float
    contact_deg: float = 0.0

    def mistakes(self) -> list[str]:
        """What cannot be, one text a mistake."""
        found = []
        if not 3 <= self.elements <= 200:
            found.append(f"elements: {self.elements}; a bearing has 3 to 200 rolling elements")
        if not 0 < self.element_diameter < self.pitch_diameter:
            found.append(
                f"element_diameter: {self.element_diameter:g} must be above 0 and below the pitch diameter "
                f"({self.pitch_diameter:g})"
            )
        if not 0 <= self.contact_deg < 90:
            found.append(f"contact_deg: {self.contact_deg:g} is not within 0 and 90")
        return found


def fault_frequencies(bearing: Bearing, shaft_hz: float) -> dict[Fault, float]:
    """Hz of each fault for a shaft that turns `shaft_hz` times a second; for the rolling element twice its spin."""
    ratio = bearing.element_diameter / bearing.pitch_diameter * math.cos(math.radians(bearing.contact_deg))
    spin = bearing.pitch_diameter / (2 * bearing.element_diameter) * shaft_hz * (1 - ratio * ratio)
    return {
        Fault.BPFO: bearing.elements / 2 * shaft_hz * (1 - ratio),
        Fault.BPFI: bearing.elements / 2 * shaft_hz * (1 + ratio),
        Fault.BSF: 2 * spin,
        Fault.FTF: shaft_hz / 2 * (1 - ratio),
    }
