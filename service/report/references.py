"""References between objects (PS3.3 C.17.2.1 and 10.3)."""

from collections.abc import Iterable

from pydicom.dataset import Dataset

from service.contract import Reference


def hierarchical(references: Iterable[Reference]) -> list[Dataset]:
    """Items by study and series, in the order given and each instance once: for evidence and predecessors."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for one in references:
        series = studies.setdefault(one.study_instance_uid, {}).setdefault(one.series_instance_uid, {})
        series.setdefault(one.sop_instance_uid, one.sop_class_uid)
    items = []
    for study_uid, series_of_study in studies.items():
        item = Dataset()
        item.ReferencedSeriesSequence = [_series(uid, found) for uid, found in series_of_study.items()]
        item.StudyInstanceUID = study_uid
        items.append(item)
    return items


def instance(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _series(series_instance_uid: str, instances: dict[str, str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_instance_uid
    item.ReferencedSOPSequence = [instance(sop_class, uid) for uid, sop_class in instances.items()]
    return item
