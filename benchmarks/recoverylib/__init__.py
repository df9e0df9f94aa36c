"""The recovery campaign: a plant of real processes, faults on purpose, and what nobody had to mend."""
