"""The demonstration: a rendered weld line with an inspection station, and its truth."""
