"""The import rule: each room imports only what it may. Every import of every file, lazy ones included."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("models", "runners", "service", "dicom_listener", "skiagraph")
LEAVES = ("skiagraph.settings", "skiagraph.log", "skiagraph.__version__")  # any room may import these

# Of our own: module prefixes that a room may import besides itself and the leaves.
OURS = {
    "models": (),
    "runners": ("models",),
    "service": ("runners", "models"),
    "dicom_listener": ("service.contract", "service.client"),
    "skiagraph": ROOMS,
}
# Of others: what a room must never import.
FORBIDDEN = {
    "models": {"bentoml", "pynetdicom", "pydicom", "tensorrt", "starlette", "dbos", "highdicom"},
    "runners": {"pynetdicom", "dbos", "highdicom", "starlette"},
    "service": {"pynetdicom", "dbos", "torch", "onnxruntime"},
    "dicom_listener": {"torch", "bentoml", "onnxruntime", "cv2", "numpy", "highdicom"},
    "skiagraph": set(),
}
TORCH_MAY_BE_IN = ("models.train", "runners.engines.tensorrt", "runners.engines.gpu")


def module_name(path: Path, root: Path = REPOSITORY) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, *, is_package: bool) -> Iterator[str]:
    """Every module named by an import statement, at any depth; relative imports made absolute."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            # `from skiagraph import log` names the module skiagraph.log.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def objection(module: str, imported: str) -> str | None:
    """Why `module` may not import `imported`, or None when it may."""
    room = module.split(".")[0]
    top = imported.split(".")[0]
    if is_below(module, "skiagraph.settings") or is_below(module, "skiagraph.log"):
        if top in ROOMS and not any(is_below(imported, leaf) for leaf in LEAVES):
            return "a leaf module imports nothing of ours"
        return None
    if top in ROOMS:
        if top == room or any(is_below(imported, allowed) for allowed in (*OURS[room], *LEAVES)):
            if room != "models" and room != "skiagraph" and is_below(imported, "models.train"):
                return "only the serving half of models"
            return None
        return f"{room} may import {', '.join(OURS[room]) or 'nothing of ours'}"
    if top in FORBIDDEN[room]:
        return f"{room} never imports {top}"
    if top == "torch" and not any(is_below(module, allowed) for allowed in TORCH_MAY_BE_IN):
        return "torch is for training only"
    return None


def files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_forbidden_arrow(path: Path) -> None:
    module = module_name(path)
    found = imports(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py")
    broken = [f"{module} -> {name}: {why}" for name in found if (why := objection(module, name))]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "source", "forbidden"),
    [
        ("dicom_listener.node", "from service.serve import serve", True),
        ("dicom_listener.node", "from service.client import Client", False),
        ("dicom_listener.node", "def f():\n    import torch", True),
        ("dicom_listener.node", "from skiagraph import log", False),
        ("dicom_listener.node", "from skiagraph import demo", True),
        ("runners.decode", "from models.train import data", True),
        ("runners.decode", "import torch", True),
        ("models.geometry", "import pydicom.uid", True),
        ("models.geometry", "from ..service import contract", True),
        ("service.report.text", "from service.contract import Status", False),
        ("skiagraph.settings.base", "from models import package", True),
    ],
)
def test_the_walker_sees_it(module: str, source: str, forbidden: bool) -> None:
    found = imports(source, module, is_package=False)
    assert any(objection(module, name) for name in found) is forbidden


@pytest.mark.parametrize("module", ["dicom_listener.node", "service.contract"])
def test_the_listener_starts_without_the_heavy_libraries(module: str) -> None:
    import subprocess

    heavy = "{'torch', 'bentoml', 'onnxruntime', 'cv2'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert result.stdout.strip() == "[]"
