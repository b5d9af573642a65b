"""What the repository promises about itself: locks that fit, no paths of one machine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([0-9][a-zA-Z0-9.]*)$")
ASKED = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-demo.lock": PROJECT["dependencies"] + EXTRAS["demo"],
    "requirements-dev.lock": PROJECT["dependencies"] + EXTRAS["demo"] + EXTRAS["train"] + EXTRAS["dev"],
}


def pins(lock: str) -> dict[str, str]:
    """Name to version; every line is `name==version` and nothing more."""
    found = {}
    for line in (REPOSITORY / lock).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        match = PIN.match(line)
        assert match, f"{lock}: {line!r} is not a plain name==version"
        found[canonicalize_name(match[1])] = match[2]
    return found


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [path for name in listing.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]


@pytest.mark.parametrize("lock", ASKED)
def test_lock_agrees_with_pyproject(lock: str) -> None:
    locked = pins(lock)
    for line in ASKED[lock]:
        asked = Requirement(line)
        version = locked.get(canonicalize_name(asked.name))
        assert version is not None, f"{lock} lacks {asked.name}: run `make lock`"
        assert asked.specifier.contains(version), (
            f"{lock} pins {asked.name} {version}, asked is {asked.specifier}"
        )


def test_locks_are_nested_and_serving_has_no_torch() -> None:
    serving, demo, dev = (pins(lock) for lock in ASKED)
    assert serving.items() <= demo.items() <= dev.items()
    assert not {"torch", "pytest", "onnx", "tensorrt"} & demo.keys()


def test_bento_installs_the_serving_lock() -> None:
    bento = yaml.safe_load((REPOSITORY / "bentofile.yaml").read_text(encoding="utf-8"))
    assert bento["python"]["requirements_txt"].removeprefix("./") == "requirements.lock"


def test_no_paths_of_one_machine() -> None:
    # Written in two parts, so that this file does not find itself.
    personal = re.compile(
        "|".join(["/wo" + "rk/", "/ro" + "ot/", "/ho" + r"me/(?!bentoml)\w+", "file:/" + "//opt"])
    )
    broken = []
    for path in tracked_files():
        text = path.read_text(encoding="latin-1")  # an exported graph can name the machine, too
        broken += [f"{path.relative_to(REPOSITORY)}: {found[0]}" for found in personal.finditer(text)]
    assert not broken


def test_readme_and_licence_are_there() -> None:
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "Research use only" in readme


def test_links_between_documents_lead_somewhere() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(REPOSITORY)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken


def test_every_make_target_is_listed_and_runs_dry() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert targets
    for target in targets[1].split():
        subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, check=True, capture_output=True)
