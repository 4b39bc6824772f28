"""What is in a release, as CycloneDX lists it: the pinned requirements, and all packages of an image."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from release._checkout import Checkout
from release._command import run

PROJECT = "iot-sftp-client"
_SPECIFICATION = "1.6"
_FORMAT = ("--output-format", "JSON", "--spec-version", _SPECIFICATION, "--output-reproducible")
# A version number of ours for UUIDs that follow from what they name (RFC 9562, version 5)
_NAMESPACE = uuid.UUID("5b0c3c2e-3c0b-5b51-9b7e-1f6f5d9c7a10")


def of_requirements(environment: Path, checkout: Checkout, work: Path, output: Path) -> int:
    """List what `requirements/module.txt` pins, with hashes; return how many packages that are.

    Raises:
        ReleaseError: they cannot be listed.
    """
    program = str(environment / "bin/cyclonedx-py")
    project = checkout.copy(work / "listed")
    named = ("--pyproject", str(project / "pyproject.toml"), "--mc-type", "library")
    options = (*named, *_FORMAT, "--output-file", str(output))
    run(program, "requirements", *options, str(project / "requirements/module.txt"))
    return len(json.loads(output.read_text(encoding="utf-8"))["components"])


def of_image(root: Path, name: str, version: str, checkout: Checkout, output: Path) -> dict[str, int]:
    """List the packages that an image holds; return how many there are of each kind.

    Parameters:
        root: its root file system.
        name: the image's name, with its platform.
        version: of the image.
        checkout: from which it was built.
        output: the file.
    """
    kinds = {"deb": list(_of_debian(root)), "pypi": list(_of_python(root))}
    components = sorted((one for kind in kinds.values() for one in kind), key=lambda one: str(one["bom-ref"]))
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{_SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": _SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{name} {version} {checkout.commit}')}",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "bom-ref": name, "name": name, "version": version},
            "properties": [{"name": "iot-sftp:revision", "value": checkout.commit}],
        },
        "components": components,
    }
    output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return {kind: len(found) for kind, found in kinds.items()}


def check(environment: Path, file: Path) -> None:
    """Check a list against the schema of CycloneDX.

    Raises:
        ReleaseError: it does not conform.
    """
    code = (
        "import sys; from cyclonedx.schema import SchemaVersion;"
        "from cyclonedx.validation.json import JsonStrictValidator;"
        "problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding='utf-8').read());"
        "sys.exit(str(problem) if problem else 0)"
    )
    run(str(environment / "bin/python"), "-c", code, str(file))


def _of_debian(root: Path) -> Iterator[dict[str, Any]]:
    """Yield what dpkg has installed; deb822(5) is written as the headers of a message are."""
    text = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for paragraph in text.split("\n\n"):
        fields = HeaderParser().parsestr(paragraph)
        if fields.get("Status", "").endswith(" installed"):
            name, version, architecture = (fields[key] for key in ("Package", "Version", "Architecture"))
            where = f"pkg:deb/debian/{name}@{quote(version)}?arch={architecture}"
            yield {"type": "library", "bom-ref": where, "name": name, "version": version, "purl": where}


def _of_python(root: Path) -> Iterator[dict[str, Any]]:
    """Yield the distributions that are installed anywhere in the image."""
    for file in {path.resolve() for path in root.glob("**/*.dist-info/METADATA")}:
        fields = HeaderParser().parsestr(file.read_text(encoding="utf-8", errors="replace"))
        name, version = str(fields["Name"]).lower().replace("_", "-").replace(".", "-"), str(fields["Version"])
        where = f"pkg:pypi/{name}@{quote(version)}"
        component = {"type": "library", "bom-ref": where, "name": name, "version": version, "purl": where}
        licence = fields.get("License-Expression")
        yield component | ({"licenses": [{"expression": licence}]} if licence else {})
