"""The platform every node has: the messages of the wire contract, and the functions of nodes and fleet."""
