"""The stage `manufacturing.inspection`: what is a part, when it is looked at, what a defect means, who hears of it.

Places are shares of the picture (0..1, origin top left), times seconds, lengths millimetres.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from platforms.stages import InputLine, line_mistakes, topic_mistake
from schemas.shape import Limit

Share = Annotated[float, Limit(ge=0, le=1)]
Region = tuple[Share, Share, Share, Share]
NAME = Limit(pattern=r"([A-Za-z0-9][A-Za-z0-9._-]{0,62})?", means="up to 63 letters, digits, . _ -")
FRAMES_MAX = 16


class Verdict(StrEnum):
    """What becomes of a part."""

    OK = "ok"
    REWORK = "rework"
    UNSURE = "unsure"  # nobody can say: a person has to look
    REJECT = "reject"


CODES = {Verdict.OK: 1, Verdict.REWORK: 2, Verdict.REJECT: 3, Verdict.UNSURE: 4}
"""The verdicts as numbers, for a PLC. 0 is none yet."""


class Trigger(StrEnum):
    """What says that a part is to be judged."""

    MOTION = "motion"  # its way through the picture: when its middle passes the gate
    SIGNAL = "signal"  # a message, an input line or a command


class Find(StrEnum):
    """How a part is told from what it lies on."""

    BRIGHTER = "brighter"
    DARKER = "darker"
    NONE = "none"  # not at all: a signal says that one is there


class Moves(StrEnum):
    """Where parts go in the picture."""

    AUTO = "auto"  # along x; which way is learnt from the first part
    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"


class SerialSource(StrEnum):
    """Where a part's serial number comes from."""

    NONE = "none"
    CODE = "code"  # a QR or DataMatrix code on the part
    MQTT = "mqtt"  # a message before the part


class CheckDigit(StrEnum):
    """How the last digit of a serial number follows from those before it."""

    NONE = "none"
    LUHN = "luhn"  # ISO/IEC 7812-1
    GS1 = "gs1"  # modulo 10 with weights 3 and 1, as in GTIN and SSCC


class Form(StrEnum):
    """How a verdict is published."""

    JSON = "json"  # one flat object on the topic
    VALUES = "values"  # a plain value each on topics beneath it


@dataclass(frozen=True, slots=True)
class PartSettings:
    """What is a part, and which of its pictures count.

    level:    brightness (0..1) that parts in a column of the picture are brighter, or darker, than
    length:   of a part, as share of the region along its way: shorter ones are dirt, longer ones cannot be
    gate:     where the middle of a part is judged
    frames:   pictures that are put together: the best ones, one of each stretch of `apart` of the region
    """

    find: Find = Find.BRIGHTER
    level: Share = 0.2
    length_min: Share = 0.15
    length_max: Annotated[float, Limit(gt=0, le=100)] = 2.0
    moves: Moves = Moves.AUTO
    gate: Share = 0.5
    frames: Annotated[int, Limit(ge=1, le=FRAMES_MAX)] = 3
    apart: Share = 0.02


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """The trigger `signal`. `topic`: on the local broker. `chip`, `line`: an input of the node.

    before_s, after_s: the part is in view so long before and after the signal
    debounce_s:        a second signal within it is the same part
    """

    topic: Annotated[str, Limit(len_max=1024)] = ""
    chip: str = "/dev/gpiochip0"
    line: int | str = ""
    active_low: bool = False
    before_s: Annotated[float, Limit(ge=0, le=10)] = 0.1
    after_s: Annotated[float, Limit(ge=0, le=30)] = 0.5
    debounce_s: Annotated[float, Limit(ge=0, le=60)] = 0.2


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """What these classes mean, from this confidence, size and number on. No classes: all of them.

    unsure_from: below confidence_min and from here on nobody can say; 0: what is below counts for nothing
    """

    verdict: Verdict
    classes: tuple[str, ...] = ()
    confidence_min: Share = 0.5
    unsure_from: Share = 0.0
    length_mm_min: Annotated[float, Limit(ge=0, le=1e6)] = 0.0
    area_mm2_min: Annotated[float, Limit(ge=0, le=1e12)] = 0.0
    count_min: Annotated[int, Limit(ge=1, le=1000)] = 1

    @property
    def measures(self) -> bool:
        """Whether it asks for millimetres."""
        return self.length_mm_min > 0 or self.area_mm2_min > 0


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """Pixels to millimetres: one scale, or the file that `edge-agent calibrate` wrote."""

    mm_per_px: Annotated[float, Limit(ge=0, le=1000)] = 0.0
    file: Path | None = None

    @property
    def given(self) -> bool:
        return self.mm_per_px > 0 or self.file is not None


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """When the camera, and not the part, is at fault.

    black_max, white_share: it is black when 99 % of the picture are darker, white when so much of it is at the limit
    edge_px_max:  width of the sharpest edges, pixels, beyond which the picture is blurred; 0: not looked at
    reference:    a picture of the camera as it should stand; `fixed`: the part of it that always looks the same
    hold_s:       a fault is told when it lasts so long, and over when it was away so long
    """

    black_max: Share = 0.08
    white_share: Share = 0.6
    edge_px_max: Annotated[float, Limit(ge=0, le=64)] = 4.5
    reference: Path | None = None
    fixed: Region = (0.0, 0.0, 1.0, 1.0)
    shift_px_max: Annotated[float, Limit(gt=0, le=1000)] = 8.0
    hold_s: Annotated[float, Limit(ge=0, le=60)] = 0.5


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """A part's serial number. `pattern`: a regular expression for all of it. `memory`: serials remembered."""

    source: SerialSource = SerialSource.NONE
    topic: Annotated[str, Limit(len_max=1024)] = ""
    pattern: Annotated[str, Limit(len_max=1000)] = ""
    check: CheckDigit = CheckDigit.NONE
    required: bool = False
    wait_s: Annotated[float, Limit(ge=0, le=5)] = 0.2
    window_s: Annotated[float, Limit(gt=0, le=3600)] = 10.0
    memory: Annotated[int, Limit(ge=0, le=1_000_000)] = 10_000


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Where the verdict goes, on the local broker."""

    topic: Annotated[str, Limit(len_max=1024)] = ""
    form: Form = Form.JSON
    retain: bool = False


@dataclass(frozen=True, slots=True)
class InspectionSettings:
    """The whole table. `wait_s`: for the models of `also`."""

    station: Annotated[str, NAME] = ""
    region: Region = (0.0, 0.0, 1.0, 1.0)
    trigger: Trigger = Trigger.MOTION
    unlisted: Verdict = Verdict.REJECT
    wait_s: Annotated[float, Limit(ge=0, le=5)] = 0.2
    part: PartSettings = PartSettings()
    signal: SignalSettings = SignalSettings()
    rules: Annotated[tuple[RuleSettings, ...], Limit(len_max=100)] = ()
    calibration: CalibrationSettings = CalibrationSettings()
    camera: CameraSettings = CameraSettings()
    serial: SerialSettings = SerialSettings()
    output: OutputSettings = OutputSettings()


def inspection_mistakes(settings: InspectionSettings) -> list[str]:
    """What does not fit together, each as `key: what`."""
    mistakes = []
    for key, (x0, y0, x1, y1) in (("region", settings.region), ("camera.fixed", settings.camera.fixed)):
        if x0 >= x1 or y0 >= y1:
            mistakes.append(f"{key}: is empty; it is [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    part, signal, serial = settings.part, settings.signal, settings.serial
    if part.find is Find.NONE and settings.trigger is Trigger.MOTION:
        mistakes.append("part.find: is none, but trigger = 'motion' must see parts; say brighter or darker")
    if part.length_min >= part.length_max:
        mistakes.append("part.length_min: must be less than length_max")
    if settings.trigger is Trigger.MOTION and (signal.topic or signal.line != ""):
        mistakes.append("signal: is given, but trigger = 'motion' takes none")
    wrong = line_mistakes(InputLine(signal.chip, signal.line))
    mistakes += [f"signal.{key}: {text}" for key, text in wrong.items()]
    if settings.calibration.mm_per_px > 0 and settings.calibration.file is not None:
        mistakes.append("calibration: give mm_per_px or file, not both")
    for i, rule in [(i, rule) for i, rule in enumerate(settings.rules) if rule]:  # None: too wrong to be read
        if rule.measures and not settings.calibration.given:
            mistakes.append(f"rules[{i}]: asks for millimetres, but there is no calibration")
        if rule.unsure_from > rule.confidence_min:
            mistakes.append(f"rules[{i}].unsure_from: must not be more than confidence_min")
    if serial.source is SerialSource.MQTT and not serial.topic and settings.trigger is Trigger.MOTION:
        mistakes.append("serial.topic: is needed for source = 'mqtt': with trigger = 'motion' no signal brings it")
    try:
        re.compile(serial.pattern)
    except re.error as error:
        mistakes.append(f"serial.pattern: is no regular expression: {error}")
    for key, topic in (
        ("signal.topic", signal.topic),
        ("serial.topic", serial.topic),
        ("output.topic", settings.output.topic),
    ):
        if wrong_topic := topic_mistake(topic):
            mistakes.append(f"{key}: {wrong_topic}")
    return mistakes
