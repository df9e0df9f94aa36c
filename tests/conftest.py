"""For every test: no example of Hypothesis fails for the time it takes, for a machine may be busy for a moment; and
Ctrl-C reaches what a test starts, also where the tests themselves run in a background that ignores it."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("edgewright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgewright")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
