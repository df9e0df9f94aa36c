"""From a float model to an int8 one, with pictures of the user: `edgectl model quantize`."""
