"""Settings to the technology that reads them; the libraries of modbus, opcua and serial are imported only here on."""

from collections.abc import Callable, Sequence

from agent.sensors.reader import Reader, SensorSettingsError
from agent.sensors.settings import OnBroker, SensorConfig, SensorKind
from runtime.mqtt import BrokerAddress

_EXTRA = {SensorKind.MODBUS: "modbus", SensorKind.OPCUA: "opcua", SensorKind.SERIAL: "serial"}


def reader_of(config: SensorConfig, node: str, local: BrokerAddress, fleet: BrokerAddress) -> Reader:
    """Raises SensorSettingsError: a library is missing."""
    match config.kind:
        case SensorKind.MQTT:
            from agent.sensors.over_mqtt import MqttReader

            address = local if config.broker is OnBroker.LOCAL else fleet
            return MqttReader(config, address, f"{node}-sensor-{config.id}")
        case SensorKind.FILE:
            from agent.sensors.files import FileReader

            return FileReader(config)
        case _:
            return _of_extra(config)


def readers_mistakes(sensors: Sequence[SensorConfig | None]) -> list[str]:
    """What keeps a sensor from being read at all, such as a library that is missing."""
    found, nowhere = [], BrokerAddress("127.0.0.1", 1)
    for i, sensor in enumerate(sensors):
        try:
            if sensor:
                reader_of(sensor, "", nowhere, nowhere)
        except SensorSettingsError as error:
            found.append(f"sensors[{i}]: {error}")
    return found


def _of_extra(config: SensorConfig) -> Reader:
    try:
        return _MAKERS[config.kind](config)
    except ImportError as error:
        extra = _EXTRA[config.kind]
        raise SensorSettingsError(
            f"kind = {config.kind.value!r}: {error}", hint=f"pip install 'edgewright[{extra}]'"
        ) from error


def _modbus(config: SensorConfig) -> Reader:
    from agent.sensors.modbus import ModbusReader

    return ModbusReader(config)


def _opcua(config: SensorConfig) -> Reader:
    from agent.sensors.opcua import OpcUaReader

    return OpcUaReader(config)


def _serial(config: SensorConfig) -> Reader:
    from agent.sensors.serial_line import SerialReader

    return SerialReader(config)


_MAKERS: dict[SensorKind, Callable[[SensorConfig], Reader]] = {
    SensorKind.MODBUS: _modbus,
    SensorKind.OPCUA: _opcua,
    SensorKind.SERIAL: _serial,
}
