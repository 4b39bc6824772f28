"""Many files in one call: order, workers, what was delivered, removal of sources."""
