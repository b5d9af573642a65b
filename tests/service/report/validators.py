"""The validators that other people wrote: dciodvfy, dcentvfy, dsrdump."""

import re
import subprocess
from pathlib import Path

# `Error - </Sequence(0040,a370)[1]/PatientSex(0010,0040)[1]> - …`: which attribute an error is about.
_ATTRIBUTE = re.compile(r"</(?:[^>]*/)?(?P<keyword>\w+)\([^>/]*>")


def errors_of(tool: str, *arguments: str | Path) -> list[str]:
    """The lines in which the tool reports an error."""
    run = subprocess.run(
        [tool, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=60
    )
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


def dciodvfy_errors(path: Path) -> list[tuple[str, str]]:
    """(keyword of the attribute or empty, line) for each error."""
    found = []
    for line in errors_of("/usr/bin/dciodvfy", "-new", path):
        match = _ATTRIBUTE.search(line)
        found.append((match["keyword"] if match else "", line))
    return found


def dcentvfy_errors(paths: list[Path]) -> list[str]:
    return errors_of("/usr/bin/dcentvfy", *paths)


def dsrdump(path: Path) -> str:
    """DCMTK's text of a Structured Report, every value unabridged; raises when DCMTK refuses it."""
    command = ["/usr/bin/dsrdump", "+Pl", "+Pn", "+Pc", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    return run.stdout
