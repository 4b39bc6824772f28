"""Where the fleet can run."""

from __future__ import annotations

from importlib.util import find_spec

# On Python 3.14, and on ARM, there is no azure-iot-hub, which the examples need: see the marker in pyproject.toml.
collect_ignore = [] if find_spec("azure.iot.hub") else ["test_fleet_run.py"]
