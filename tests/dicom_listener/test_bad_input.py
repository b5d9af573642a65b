"""Bad instances by association, before the real service: a reason for each, an answer for the next study."""

from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from dicom_listener import studies
from skiagraph.demo.product import Product, running_product
from tests.dicom_listener.peers import Pacs, radiograph, send, until


@pytest.fixture(scope="module")
def pacs() -> Iterator[Pacs]:
    with Pacs() as found:
        yield found


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, pacs: Pacs) -> Iterator[Product]:
    work = tmp_path_factory.mktemp("product")
    listener = {"quiet_period_seconds": 0.3, "reserve_bytes": 0, "destinations": [pacs.destination]}
    with running_product(work, listener=listener, log=work / "log") as found:
        yield found


def no_pixels(instance: FileDataset) -> None:
    del instance.PixelData


def empty_pixels(instance: FileDataset) -> None:
    instance.PixelData = b""


def cut_pixels(instance: FileDataset) -> None:
    instance.PixelData = instance.PixelData[: len(instance.PixelData) // 2]


def huge(instance: FileDataset) -> None:
    instance.Rows = instance.Columns = 65535


def zero_rows(instance: FileDataset) -> None:
    instance.Rows = 0


def broken_codestream(instance: FileDataset) -> None:
    instance.file_meta.TransferSyntaxUID = JPEG2000Lossless
    instance.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(400)])


@pytest.mark.parametrize("spoil", [no_pixels, empty_pixels, cut_pixels, huge, zero_rows, broken_codestream])
def test_bad_instance_is_kept_with_its_reason(
    product: Product, pacs: Pacs, spoil: Callable[[FileDataset], None]
) -> None:
    bad = radiograph(rows=256)
    spoil(bad)
    listener = product.settings.listener
    assert send(listener.port, [bad]) == [0]
    until(lambda: _state(product, bad.StudyInstanceUID) in ("delivered", "rejected"), seconds=60)
    (revision,) = studies.show_study(listener, bad.StudyInstanceUID).revisions
    if revision.result is None:
        assert revision.revision.error
    else:
        (result,) = revision.result["results"]
        assert result["status"] in ("error", "not_analysable")
        assert result["reason_code"]
        assert result["reason"]
        assert len(pacs.reports(bad.StudyInstanceUID)) == 1


def test_next_study_is_unaffected(product: Product, pacs: Pacs) -> None:
    good = radiograph(rows=256)
    assert send(product.settings.listener.port, [good]) == [0]
    until(lambda: _state(product, good.StudyInstanceUID) == "delivered", seconds=60)
    assert len(pacs.reports(good.StudyInstanceUID)) == 1


def _state(product: Product, study: str) -> str:
    return next(
        one.state
        for one in studies.list_studies(product.settings.listener)
        if one.study_instance_uid == study
    )
