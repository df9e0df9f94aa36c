"""Roll-outs: one change to many nodes, wave by wave, that stops or goes back where it does harm."""
