"""The gateway's process, laid out in the order a frame travels.

`capture` opens cameras and keeps the newest frame, `infer` runs the model, `track` gives objects stable ids,
`decide` turns tracks into events and alerts, `outbox` commits them to SQLite, `link` brings them to the broker
and waits for the coordinator's acknowledgement. `wiring` puts them together, `agent.py` is their life.

Read `pipeline.py` first.
"""
