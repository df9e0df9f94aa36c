"""One file per kind of model output; `agent.infer.decode` chooses among them."""
