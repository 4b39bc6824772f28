"""Rules: when each one runs, the watcher of its folder, its backoff after a failure."""
