"""`[[sensors]]`: where values come from, what they are, and the windows that are made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from schemas.shape import Limit

NAME = Limit(pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", means="1 to 63 letters, digits, . _ -")
WINDOW_SAMPLES_MAX = 1_000_000  # 8 MB a channel


class SensorKind(StrEnum):
    """Where values come from."""

    MQTT = "mqtt"
    MODBUS = "modbus"
    OPCUA = "opcua"
    SERIAL = "serial"
    FILE = "file"


class OnBroker(StrEnum):
    LOCAL = "local"  # that of [local_broker]
    FLEET = "fleet"  # that of [broker]


class Table(StrEnum):
    """Of a Modbus device."""

    HOLDING = "holding"
    INPUT = "input"


class Number(StrEnum):
    """How registers make a number."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


class WordOrder(StrEnum):
    BIG = "big"  # the most significant register first
    LITTLE = "little"


class After(StrEnum):
    """What becomes of a file of a watched folder that was read."""

    MOVE = "move"  # into `done` beside it
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One channel. What is measured is `scale * raw + offset`; what lies outside of `low` and `high` is not believed.

    path: mqtt; `acc.x` or `values[0]` in a JSON payload; empty: the payload itself. column: file, serial; a name in
    the first line, or a number from 0. register, table, number, words: modbus. node: opcua, `ns=2;s=Motor.Speed`.
    """

    name: Annotated[str, NAME] = "value"
    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None
    path: Annotated[str, Limit(len_max=500)] = ""
    column: str | int = 0
    register: Annotated[int, Limit(ge=0, le=65535)] = 0
    table: Table = Table.HOLDING
    number: Number = Number.INT16
    words: WordOrder = WordOrder.BIG
    node: Annotated[str, Limit(len_max=500)] = ""


@dataclass(frozen=True, slots=True)
class SensorConfig:
    """One `[[sensors]]` table; the keys from `topic` on belong to one kind each.

    rate_hz: samples a second. window_s: length of a window. gap_s: a silence
    longer than this is a gap, 0: three samples, at least a second. silent_s: without a value for so long the sensor
    is silent, 0: three windows, at least 10 s. stuck_s: a value that stands still for so long is stuck, 0: half a
    window from 100 samples a second on, and never below. queue_max: windows that wait; beyond it the oldest is
    dropped and counted. poll_s: modbus and opcua are asked so often, 0: once a sample.
    """

    id: Annotated[str, NAME]
    kind: SensorKind
    enabled: bool = True
    unit: Annotated[str, Limit(len_max=40)] = ""
    rate_hz: Annotated[float, Limit(gt=0, le=1_000_000)] = 1.0
    window_s: Annotated[float, Limit(gt=0, le=86400)] = 10.0
    channels: Annotated[tuple[ChannelSettings, ...], Limit(len_min=1, len_max=64)] = (ChannelSettings(),)
    gap_s: Annotated[float, Limit(ge=0, le=86400)] = 0.0
    silent_s: Annotated[float, Limit(ge=0, le=604800)] = 0.0
    stuck_s: Annotated[float, Limit(ge=0, le=604800)] = 0.0
    queue_max: Annotated[int, Limit(ge=1, le=1000)] = 4
    retry_max_s: Annotated[float, Limit(ge=1, le=3600)] = 60.0
    topic: Annotated[str, Limit(len_max=1024)] = ""
    broker: OnBroker = OnBroker.LOCAL
    time_path: Annotated[str, Limit(len_max=500)] = ""
    poll_s: Annotated[float, Limit(ge=0, le=86400)] = 0.0
    host: Annotated[str, Limit(len_max=253)] = ""
    port: Annotated[int, Limit(ge=1, le=65535)] = 502
    device_id: Annotated[int, Limit(ge=0, le=255)] = 1
    timeout_s: Annotated[float, Limit(gt=0, le=60)] = 3.0
    url: Annotated[str, Limit(len_max=1000)] = ""
    username: str = ""
    password_file: Path | None = None
    device: str = ""
    baud: Annotated[int, Limit(ge=50, le=4_000_000)] = 9600
    path: str = ""
    separator: Annotated[str, Limit(len_min=1, len_max=1)] = ","
    realtime: bool = True
    after: After = After.MOVE

    @property
    def window(self) -> int:
        """Samples of a window."""
        return max(2, round(self.window_s * self.rate_hz))

    @property
    def gap_after_s(self) -> float:
        return self.gap_s or max(3 / self.rate_hz, 1.0)

    @property
    def silent_after_s(self) -> float:
        return self.silent_s or max(3 * self.window_s, 10.0)

    @property
    def stuck_samples(self) -> int | None:
        """So many equal samples in a row are a stuck sensor; None: never."""
        if self.stuck_s:
            return max(2, round(self.stuck_s * self.rate_hz))
        return max(2, self.window // 2) if self.rate_hz >= 100 else None


OWN_KEYS: dict[SensorKind, tuple[str, ...]] = {
    SensorKind.MQTT: ("topic", "broker", "time_path"),
    SensorKind.MODBUS: ("host", "port", "device_id"),
    SensorKind.OPCUA: ("url", "username", "password_file"),
    SensorKind.SERIAL: ("device", "baud"),
    SensorKind.FILE: ("path", "realtime", "after"),
}
_NEEDED = {
    SensorKind.MQTT: "topic",
    SensorKind.MODBUS: "host",
    SensorKind.OPCUA: "url",
    SensorKind.SERIAL: "device",
    SensorKind.FILE: "path",
}


def sensors_mistakes(sensors: Sequence[SensorConfig | None]) -> list[str]:
    """Every mistake that the shape alone does not show; None stands for one too wrong to be read."""
    mistakes = []
    given = [(i, sensor) for i, sensor in enumerate(sensors) if sensor]
    ids = [sensor.id for _, sensor in given]
    for i, sensor in given:
        where = f"sensors[{i}]"
        if ids.count(sensor.id) > 1:
            mistakes.append(f"{where}.id: {sensor.id!r} is given {ids.count(sensor.id)} times")
        mistakes += [f"{where}.{text}" for text in _own(sensor)]
    return mistakes


def _own(sensor: SensorConfig) -> list[str]:
    defaults = {f.name: f.default for f in fields(SensorConfig)}
    mistakes = [
        f"{key}: belongs to kind = {kind.value!r}, not to {sensor.kind.value!r}"
        for kind, keys in OWN_KEYS.items()
        if kind is not sensor.kind
        for key in keys
        if getattr(sensor, key) != defaults[key]
    ]
    needed = _NEEDED[sensor.kind]
    if not getattr(sensor, needed):
        mistakes.append(f"{needed}: is needed for kind = {sensor.kind.value!r}")
    if sensor.window > WINDOW_SAMPLES_MAX:
        mistakes.append(f"window_s: {sensor.window} samples; at most {WINDOW_SAMPLES_MAX} can be a window")
    names = [channel.name for channel in sensor.channels]
    mistakes += [f"channels: {name!r} is given twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for n, channel in enumerate(sensor.channels):
        if channel.low is not None and channel.high is not None and channel.low >= channel.high:
            mistakes.append(f"channels[{n}].low: {channel.low:g} must be below high ({channel.high:g})")
        if sensor.kind is SensorKind.OPCUA and not channel.node:
            mistakes.append(f"channels[{n}].node: is needed for kind = 'opcua'")
    return mistakes


def sensor_beside(folder: Path, sensor: SensorConfig) -> SensorConfig:
    """With its files relative to the configuration's folder."""
    return replace(
        sensor,
        path=str(folder / sensor.path) if sensor.path else "",
        password_file=folder / sensor.password_file if sensor.password_file else None,
    )
