"""`edge-agent calibrate`. What a calibration is stands in `platforms/calibration.py`."""
