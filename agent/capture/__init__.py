"""Cameras: open them, keep their newest frame, notice when they fail, come back.

`settings.py` says what a camera can be told, `source.py` what every source promises and which one reads an address,
`camera.py` runs one camera in its own thread, `slot.py` hands frames to the one thread that infers.
"""
