"""Logging, backoff, counters, the state directory, the environment: what every room uses."""
