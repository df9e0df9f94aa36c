"""One module a figure. `python -m benchmarks.<name> --json` prints one JSON object as its last line."""
