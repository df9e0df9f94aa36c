"""Teaching a model what good parts look like, at the node: from a folder of good pictures to a bundle."""
