"""Several model packages in one service, chosen per request; what the settings do not name is not loaded."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from models.package import MANIFEST, PACKAGES
from service.serve import free_port
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings import Settings
from tests.service.conftest import Running, start, stop
from tests.service.test_mixed_load import saved

DEFAULT = Settings().service.model


def sensitive(folder: Path) -> Path:
    """The shipped package under another name, with an operating point that calls everything abnormal."""
    package = folder / "sensitive"
    shutil.copytree(PACKAGES / DEFAULT, package)
    manifest = json.loads((package / MANIFEST).read_text())
    manifest["name"] = "sensitive"
    for point in manifest["operating_points"]:
        point["threshold"] = -1.0
    (package / MANIFEST).write_text(json.dumps(manifest))
    return package


def test_each_request_is_answered_by_the_model_it_names(tmp_path: Path) -> None:
    running = start(tmp_path, free_port("127.0.0.1"), also_models=[str(sensitive(tmp_path))])
    try:
        body = saved(as_dicom(draw(PhantomKind.PLAIN, seed=21, width=320, height=400)))
        asked = [DEFAULT, "sensitive", None] * 4

        def ask(model: str | None) -> dict[str, object]:
            query = {"model": model} if model else {}
            answer = httpx.post(f"{running.url}/v1/score", content=body, params=query, timeout=60)
            assert answer.status_code == 200, answer.text
            said: dict[str, object] = answer.json()
            return said

        with ThreadPoolExecutor(6) as pool:  # at once, so that a batch holds jobs for both
            answers = list(pool.map(ask, asked))
        for model, answer in zip(asked, answers, strict=True):
            assert answer["model"]["name"] == (model or DEFAULT)  # type: ignore[index]
            assert answer["score"] == answers[0]["score"]
            if model == "sensitive":
                assert answer["abnormal"] is True
        listed = httpx.get(f"{running.url}/v1/models").json()["models"]
        assert [model["name"] for model in listed] == [DEFAULT, "sensitive"]
    finally:
        stop(running)


def test_only_what_the_settings_name_is_loaded(service: Running) -> None:
    listed = httpx.get(f"{service.url}/v1/models").json()["models"]
    assert [model["name"] for model in listed] == [DEFAULT]
    ready = [json.loads(line) for line in service.log.read_text().splitlines() if "model is ready" in line]
    assert {line["model"] for line in ready} == {DEFAULT}
