"""`python -m images.start_container FILE`: start the container that `FILE` describes.

It takes the variables of its environment that the edge agent sets, and becomes runc: so it stands where the local edge
runtime expects the module's command.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from images._container import RUNTIME, Container

_EDGE_AGENTS = ("IOTEDGE_", "SFTP_")


def main() -> None:
    """Become the container."""
    container = Container(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    variables = {
        name: value for name, value in os.environ.items() if name.startswith(_EDGE_AGENTS) or name == "LOG_LEVEL"
    }
    config = Path(container.directory, "config.json")
    config.write_text(json.dumps(container.specification(variables)), encoding="utf-8")
    try:
        os.execvp(RUNTIME, [RUNTIME, "run", "--bundle", container.directory, container.name])  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        sys.exit(f"{RUNTIME} is not installed; tools/install-image-tools installs it.")


if __name__ == "__main__":
    main()
