"""For every test: no example of Hypothesis fails for the time it takes, for a machine may be busy for a moment."""

from hypothesis import HealthCheck, settings

settings.register_profile("edgewright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgewright")
