"""Predictive maintenance: from windows of a sensor's signal to how a machine is and how long it will do. Pure."""
