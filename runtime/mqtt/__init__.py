"""MQTT 5 on the event loop: one connection, what travels on it, where it leads, what can go wrong."""

from runtime.mqtt.address import BrokerAddress
from runtime.mqtt.connection import PACKET_BYTES_MAX, READ_PACKETS_MAX, RECEIVE_MAXIMUM, Connection
from runtime.mqtt.errors import STRANGER_REASONS, BrokerAuthError, BrokerRefusedError, BrokerUnreachableError
from runtime.mqtt.messages import Delivery, Limits, Message

__all__ = [
    "PACKET_BYTES_MAX",
    "READ_PACKETS_MAX",
    "RECEIVE_MAXIMUM",
    "STRANGER_REASONS",
    "BrokerAddress",
    "BrokerAuthError",
    "BrokerRefusedError",
    "BrokerUnreachableError",
    "Connection",
    "Delivery",
    "Limits",
    "Message",
]
