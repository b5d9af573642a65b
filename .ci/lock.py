"""Write the locks: pip's own resolution of pyproject.toml, as plain `name==version` lines."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LOCKS = {
    "requirements.lock": ".",
    "requirements-demo.lock": ".[demo]",
    "requirements-dev.lock": ".[demo,train,rtx,dev]",
}


def resolve(requirement: str) -> list[str]:
    """What pip would install into an empty environment, without local versions such as +cpu."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), requirement], cwd=REPOSITORY, check=True)
        chosen = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {item["name"].lower().replace("_", "-"): item["version"].split("+")[0] for item in chosen}
    del pins["skiagraph"]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def main() -> None:
    for lock, requirement in LOCKS.items():
        pins = resolve(requirement)
        header = f"# {requirement} of pyproject.toml, pinned by `make lock`"
        (REPOSITORY / lock).write_text("\n".join([header, *pins]) + "\n")
        print(f"{lock}: {len(pins)} packages")


if __name__ == "__main__":
    main()
