"""The edge hub: connection, watchdog, the SDK's internals, reported properties."""
