"""`python -m dashboard`: let a module run for some minutes, and draw the dashboard; `make dashboard` calls it."""

from __future__ import annotations

import argparse
from pathlib import Path

from dashboard._picture import drawing, panels_of
from dashboard._story import SECONDS, run

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run, and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m dashboard", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the module runs")
    parser.add_argument("--address", default="127.0.0.1", help="the loopback address to use")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "dashboard.svg")
    arguments = parser.parse_args()
    scrapes = run(ROOT / "deployment.template.json", arguments.address, arguments.seconds)
    title = f"SFTP module: {arguments.seconds:.0f} s of a run on the local edge runtime, scraped every 2 s"
    panels = panels_of(ROOT / "monitoring" / "grafana-dashboard.json")
    arguments.output.write_text(drawing(panels, scrapes, title), encoding="utf-8")


if __name__ == "__main__":
    main()
