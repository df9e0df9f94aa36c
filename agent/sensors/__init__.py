"""Sensors: values from MQTT, Modbus/TCP, OPC UA, a serial line or files become windows for platforms.

Read `sensors.py` first. `parse`, `assemble` and `health` decide; `over_mqtt`, `modbus`, `opcua`, `serial_line` and
`files` are one technology each.
"""
