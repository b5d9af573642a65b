"""What every training run keeps in its folder: run.json, checkpoints, curve.jsonl and train.log."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from models.train.errors import RunError

RUN = "run.json"
Report = Callable[[int, dict[str, float]], None]


class Stateful(Protocol):
    """A network or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


def claim(folder: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Begin or continue a run; RunError when `folder` holds one and `resume` is off, or another one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN
    if not path.exists():
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return
    if not resume:
        raise RunError(
            f"{folder} already holds a training run: give --resume to continue it, or another --out"
        )
    if read_config(folder) != json.loads(json.dumps(config)):
        raise RunError(
            f"{path} was made with other settings: give the same --steps and --seed, or another --out"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of run.json, `name` among them; RunError when there is none."""
    try:
        values: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{folder} holds no training run: name the folder that training wrote {RUN} to"
        ) from None
    return values


@contextmanager
def reporting(folder: Path) -> Iterator[Callable[[str, int], Report]]:
    """Progress with time to go on the screen, and every hundredth step in train.log.

    Yields a function from (what is trained, steps) to the `Report` of that training.
    """
    log = _log_to(folder)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:

        def begin(what: str, steps: int) -> Report:
            task: TaskID = progress.add_task(what, total=steps)

            def report(step: int, values: dict[str, float]) -> None:
                progress.update(task, completed=step, description=f"{what} loss {values['loss']:.3f}")
                if "unseen_auc" in values or step % 100 == 0:
                    figures = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
                    log.info("%s step %d: %s", what, step, figures)

            return report

        yield begin
    log.info("finished")


def append_curve(folder: Path, step: int, values: dict[str, float]) -> None:
    """One line more in curve.jsonl."""
    with (folder / "curve.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")


def save_checkpoint(path: Path, config: dict[str, Any], step: int, parts: Mapping[str, Stateful]) -> None:
    """Replace the checkpoint at once: a killed training leaves the old one or the new one."""
    state = {name: part.state_dict() for name, part in parts.items()}
    unfinished = path.with_suffix(".tmp")
    torch.save({"config": json.dumps(config), "step": step, **state}, unfinished)
    unfinished.replace(path)


def restore_checkpoint(path: Path, config: dict[str, Any], parts: Mapping[str, Stateful]) -> int:
    """Load the checkpoint into `parts` and return its step, 0 when there is none; RunError when another
    configuration made it."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["config"] != json.dumps(config):
        raise RunError(
            f"{path} was made with other settings: give the same --steps and --seed, or another --out; "
            f"it has {state['config']}"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def _log_to(folder: Path) -> logging.Logger:
    log = logging.getLogger(f"models.train.{folder.name}")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [logging.FileHandler(folder / "train.log")]
    log.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return log
