"""The ablation: every column once, a second call adds nothing, and the page says what was found."""

import json
from pathlib import Path

from models.train.ablation import FILE, ablation_section, run_ablation
from models.train.columns import COLUMNS
from models.train.evaluate import validation
from models.train.sources import read_source
from tests.models.limbs import write_fracatlas


def test_every_column_is_trained_once_and_compared(tmp_path: Path) -> None:
    data = write_fracatlas(tmp_path / "fracatlas", normals=18, validation=12)
    steps = {"cae": 1}
    assert ablation_section([], tmp_path) == ""
    run_ablation(data, tmp_path, steps)
    kept = (tmp_path / FILE).read_text(encoding="utf-8")
    assert list(json.loads(kept)["cae"]["answers"]) == list(COLUMNS)
    columns = [str(answers) for answers in json.loads(kept)["cae"]["answers"].values()]
    assert len(set(columns)) == len(COLUMNS)
    run_ablation(data, tmp_path, steps)
    assert (tmp_path / FILE).read_text(encoding="utf-8") == kept

    samples = validation(read_source(data))
    page = ablation_section(samples, tmp_path)
    assert "`cae`, 1 steps" in page
    assert all(f"| {column} |" in page for column in COLUMNS)
    assert "full minus raw" in page


def test_the_finding_follows_the_interval(tmp_path: Path) -> None:
    """raw ranks all wrong, full all right: reproduced; the other way round: contradicted; alike: neither."""
    samples = validation(read_source(write_fracatlas(tmp_path / "fracatlas", normals=1, validation=40)))
    right = {s.path.name: [float(s.abnormal) + i / 100, 0.0] for i, s in enumerate(samples)}
    wrong = {name: [-value, flag] for name, (value, flag) in right.items()}
    for raw, full, said in (
        (wrong, right, "reproduces the paper's finding"),
        (right, wrong, "contradicts the paper's finding"),
        (right, right, "neither reproduces nor contradicts"),
    ):
        kept = {"cae": {"steps": 5, "seed": 1, "answers": {"raw": raw, "full": full}}}
        (tmp_path / FILE).write_text(json.dumps(kept), encoding="utf-8")
        assert said in ablation_section(samples, tmp_path)
