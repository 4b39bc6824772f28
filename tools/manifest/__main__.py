"""`python -m manifest`: expand a template, check the result, write it; `make manifest` calls it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from manifest import ManifestError, expanded, images_of, problems_of, schema_problems, secrets_in

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Expand and check what the arguments name; return the exit status."""
    arguments = _arguments()
    variables = {**_env_file(arguments.root / ".env"), **os.environ}
    problems: list[str] = []
    for template in arguments.templates:
        try:
            found = _write_manifest(arguments, template, variables)
        except (ManifestError, OSError) as error:
            found = str(error).splitlines()
        problems += [f"{template}: {problem}" for problem in found]
    for problem in problems:
        print(f"manifest: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m manifest", description=__doc__)
    parser.add_argument("--platform", required=True, help="a platform of modules/*/module.json")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project, with its modules/*/module.json")
    parser.add_argument("--output", type=Path, help="the folder for the manifests: config, as the Azure tools have it")
    parser.add_argument("--schemas", type=Path, help="a folder with the schemas of edge agent and edge hub, if there")
    parser.add_argument("templates", nargs="*", type=Path, help="deployment.template.json")
    arguments = parser.parse_args()
    arguments.templates = arguments.templates or [arguments.root / "deployment.template.json"]
    arguments.output = arguments.output or arguments.root / "config"
    arguments.schemas = arguments.schemas or arguments.root.parent / "shared" / "schemas"
    return arguments


def _write_manifest(arguments: argparse.Namespace, file: Path, variables: dict[str, str]) -> list[str]:
    """Write the manifest of a template; return what is wrong instead, if anything is."""
    template = _read(file)
    problems = list(secrets_in(template))
    if problems:
        return problems
    manifest = expanded(template, images_of(arguments.root, arguments.platform, variables), variables)
    problems = [*problems_of(manifest), *schema_problems(manifest, arguments.schemas)]
    if problems:
        return problems
    name = file.name.replace(".template.json", f".{arguments.platform}.json")
    path = arguments.output / name
    arguments.output.mkdir(parents=True, exist_ok=True)
    # Values of the environment may be secret: only who wrote it may read it
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as output:
        os.fchmod(output.fileno(), 0o600)
        json.dump(manifest, output, indent=2, ensure_ascii=False)
        output.write("\n")
    schemas = "" if any(arguments.schemas.glob("*.json")) else ", without the schemas of edge agent and edge hub"
    print(f"{path}: written, and valid{schemas}")
    return []


def _read(file: Path) -> dict[str, Any]:
    try:
        template = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ManifestError(f"is not JSON: {error}") from error
    if not isinstance(template, dict):
        raise ManifestError("must be a JSON object")
    return template


def _env_file(file: Path) -> dict[str, str]:
    """Read NAME=value lines, as the Azure tools do from `.env`."""
    if not file.exists():
        return {}
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
