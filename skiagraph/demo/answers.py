"""What came back for each study: named files, a readable report, a picture, and one row of a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pydicom
from PIL import Image
from rich.table import Table

from dicom_listener.ledger.overview import RevisionHistory, StudyHistory
from service.report.text import as_text
from skiagraph.demo.studies import DemoStudy

_SHORT_KIND: Final = {"structured_report": "SR", "heatmap": "SC", "overview": "SC overview"}
_FILE_KIND: Final = {"structured_report": "report", "heatmap": "heatmap", "overview": "overview"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """history: None when the study never came in. received: kinds of object that the PACS has."""

    study: DemoStudy
    history: StudyHistory | None
    received: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def latest(self) -> RevisionHistory | None:
        return self.history.revisions[-1] if self.history and self.history.revisions else None

    def results(self) -> list[dict[str, Any]]:
        """The latest `InstanceResult`s, as the ledger keeps them."""
        return list((self.latest.result or {}).get("results", [])) if self.latest else []

    @property
    def complete(self) -> bool:
        """The study was taken, answered, and the PACS has every object of the answer."""
        latest = self.latest
        if self.study.problem or latest is None:
            return False
        return bool(latest.objects) and len(self.received) == len(latest.objects)


def collect(answers: Sequence[Answer], paths: Sequence[Path], folder: Path) -> list[Answer]:
    """Name the received files after the studies, and write each report as text and heatmap as PNG."""
    by_uid = {path.stem: path for path in paths}
    named: list[Answer] = []
    used: set[str] = set()
    for answer in answers:
        stem = _slug(answer.study.name, used)
        received: list[str] = []
        files: list[Path] = []
        for made in answer.latest.objects if answer.latest else ():
            path = by_uid.get(made.sop_instance_uid)
            if path is None:
                continue
            received.append(made.kind)
            number = (
                f"-{received.count(made.kind)}"
                if made.kind == "heatmap" and len(answer.results()) > 1
                else ""
            )
            target = path.replace(folder / f"{stem}.{_FILE_KIND.get(made.kind, made.kind)}{number}.dcm")
            files += [target, _readable(target)]
        named.append(replace(answer, received=tuple(received), files=tuple(files)))
    return named


def table(answers: Sequence[Answer]) -> Table:
    """One row an instance; a study without any says why."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("study", "what it shows", "score", "percentile", "verdict or reason", "the PACS received"):
        shown.add_column(
            title, overflow="fold", justify="right" if title in {"score", "percentile"} else "left"
        )
    for answer in answers:
        study = answer.study
        received = ", ".join(_SHORT_KIND.get(kind, kind) for kind in answer.received) or "nothing"
        results = answer.results()
        if not results:
            state = answer.history.summary.state if answer.history else "not received"
            error = answer.history.summary.error if answer.history else None
            shown.add_row(study.name, study.shows, "", "", study.problem or error or state, received)
        for number, result in enumerate(results):
            first = number == 0
            shown.add_row(
                study.name if first else "",
                study.shows if first else "",
                *_verdict(result, study),
                received if first else "",
            )
    return shown


def _verdict(result: dict[str, Any], study: DemoStudy) -> tuple[str, str, str]:
    if result["status"] != "scored":
        return "", "", f"{result['status'].replace('_', ' ')}: {result['reason']}"
    verdict = "local finding" if result["abnormal"] else "no local finding"
    if study.planted and any(_overlap(region, box) for region in result["regions"] for box in study.planted):
        verdict += ", a region on the planted place"
    return f"{result['score']:.3f}", str(int(result["percentile"])), verdict


def _overlap(region: dict[str, float], box: tuple[float, float, float, float]) -> bool:
    x, y, width, height = box
    across = region["x"] < x + width and x < region["x"] + region["width"]
    return across and region["y"] < y + height and y < region["y"] + region["height"]


def _readable(path: Path) -> Path:
    """The report as text, or the heatmap as PNG, beside the DICOM file."""
    dataset = pydicom.dcmread(path)
    if "PixelData" in dataset:
        picture = path.with_suffix(".png")
        Image.fromarray(dataset.pixel_array).save(picture, compress_level=1)
        return picture
    text = path.with_suffix(".txt")
    text.write_text(as_text(dataset), encoding="utf-8")
    return text


def _slug(name: str, used: set[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "study"
    slug, number = plain, 1
    while slug in used:
        number += 1
        slug = f"{plain}-{number}"
    used.add(slug)
    return slug
