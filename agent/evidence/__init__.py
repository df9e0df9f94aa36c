"""Pictures and clips of what happened: kept here, bound to their events, sent at low priority or when asked for."""
