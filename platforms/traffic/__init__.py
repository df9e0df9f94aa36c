"""Smart traffic: flows, violations and signals at junctions."""
