"""What both processes stand on: MQTT and SQLite adapters, config loading, supervision, logging, clocks."""
