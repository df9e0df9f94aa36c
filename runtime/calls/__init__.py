"""Function calls over MQTT, for both processes: what is served, how a call is answered once, and a client."""
