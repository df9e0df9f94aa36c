"""The parts of `edgectl`: one file for the tables, one for what is looked up, one for calls over the broker."""
