"""Coded concepts of the report: the standard's where it has one (PS3.16), our own where it has none."""

from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from models.rejection import RejectionCode
from service.contract import MANUFACTURER
from service.report.identity import derived_uid

PRIVATE_SCHEME: Final = "99SKIAGRAPH"

HAND: Final = Code("85562004", "SCT", "Hand")
PLAIN_RADIOGRAPHY: Final = Code("168537006", "SCT", "Plain radiography")
NO_UNITS: Final = Code("1", "UCUM", "no units")
PERCENT: Final = Code("%", "UCUM", "percent")
PIXELS: Final = Code("{pixels}", "UCUM", "Pixels")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
SOURCE_FOR_PROCESSING: Final = Code("121322", "DCM", "Source image for image processing operation")
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
MODALITY: Final = Code("121139", "DCM", "Modality")
IMAGE_LATERALITY: Final = Code("111027", "DCM", "Image Laterality")
IMAGE_VIEW: Final = Code("111031", "DCM", "Image View")
PIXEL_ROWS: Final = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_COLUMNS: Final = Code("110911", "DCM", "Pixel Data Columns")
SOURCE_OF_MEASUREMENT: Final = Code("121112", "DCM", "Source of Measurement")
ILLUSTRATION: Final = Code("121200", "DCM", "Illustration of ROI")
PERCENTILE_RANKING: Final = Code("121415", "DCM", "Percentile Ranking of measurement")
COMMENT: Final = Code("121106", "DCM", "Comment")
SUMMARY: Final = Code("121111", "DCM", "Summary")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")

# (0020,0060) and (0020,0062); CID 244
LATERALITIES: Final = {
    "R": Code("24028007", "SCT", "Right"),
    "L": Code("7771000", "SCT", "Left"),
    "B": Code("51440002", "SCT", "Right and left"),
}
# (0018,5101); CID 4010
VIEWS: Final = {
    "PA": Code("272479007", "SCT", "postero-anterior"),
    "AP": Code("399348003", "SCT", "antero-posterior"),
    "LL": Code("399173006", "SCT", "left lateral"),
    "RL": Code("399198007", "SCT", "right lateral"),
    "LLO": Code("399184004", "SCT", "left oblique"),
    "RLO": Code("399236003", "SCT", "right oblique"),
}
# CID 29
MODALITIES: Final = {
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "OT": Code("OT", "DCM", "Other Modality"),
}


def _own(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


ANOMALY_SCORE: Final = _own("SCORE", "Anomaly score of the local finding")
REGION_SCORE: Final = _own("REGION_SCORE", "Highest anomaly score in the region")
NOVELTY: Final = _own("NOVELTY", "Unusual positioning or technique")
THRESHOLD: Final = _own("THRESHOLD", "Threshold of the operating point")
REGION_RANK: Final = _own("REGION_RANK", "Rank of the region")
ANOMALOUS_REGION: Final = _own("REGION", "Region unlike normal hand radiographs")
VERDICT: Final = _own("VERDICT", "Local finding against the operating point")
ABOVE: Final = _own("ABOVE", "Above the operating point")
NOT_ABOVE: Final = _own("NOT_ABOVE", "Not above the operating point")
ANALYSIS: Final = _own("ANALYSIS", "Analysis")
ANALYSIS_DONE: Final = _own("DONE", "Analysis performed")
ANALYSIS_NOT_DONE: Final = _own("NOT_DONE", "Analysis not performed")
REASON: Final = _own("REASON", "Reason why the analysis was not performed")
HEATMAP_DERIVATION: Final = _own("HEATMAP", "Anomaly map drawn over the radiograph")

# Code Value is an SH (PS3.5 6.2): at most 16 characters, so the rejection codes get short ones.
_REASONS: Final = {
    RejectionCode.EMPTY: _own("R_EMPTY", "The instance is empty"),
    RejectionCode.NOT_AN_IMAGE: _own("R_NO_IMAGE", "Not an image"),
    RejectionCode.TRUNCATED: _own("R_TRUNCATED", "The pixel data are truncated"),
    RejectionCode.UNDECODABLE: _own("R_UNDECODABLE", "The pixel data cannot be decoded"),
    RejectionCode.NO_PIXELS: _own("R_NO_PIXELS", "No pixel data"),
    RejectionCode.TOO_LARGE: _own("R_TOO_LARGE", "Too large"),
    RejectionCode.INVALID_HEADER: _own("R_HEADER", "The header is invalid"),
    RejectionCode.UNSUPPORTED_SOP_CLASS: _own("R_SOP_CLASS", "SOP Class not analysed"),
    RejectionCode.FOR_PROCESSING: _own("R_PROCESSING", "For Processing, not For Presentation"),
    RejectionCode.MULTI_FRAME: _own("R_MULTI_FRAME", "Several frames"),
    RejectionCode.BLANK: _own("R_BLANK", "Blank"),
    RejectionCode.NOT_A_RADIOGRAPH: _own("R_NO_RADIOGRAPH", "Not a radiograph"),
    RejectionCode.NOT_A_HAND: _own("R_NO_HAND", "Not a hand"),
    RejectionCode.FOREARM: _own("R_FOREARM", "A forearm"),
    RejectionCode.MULTIPLE_VIEWS: _own("R_VIEWS", "Several views on one radiograph"),
}
_OTHER_REASON: Final = _own("R_OTHER", "Another reason")


def reason(reason_code: str | None) -> Code:
    """The coded reason of a rejection; reasons that are no `RejectionCode` (a fault of ours) share one."""
    try:
        return _REASONS[RejectionCode(reason_code or "")]
    except ValueError:
        return _OTHER_REASON


def coding_scheme_identification() -> Dataset:
    """An item of Coding Scheme Identification Sequence (PS3.3 C.12.1.1.6) that declares our own codes."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeUID = derived_uid("coding scheme", PRIVATE_SCHEME)
    item.CodingSchemeName = "Skiagraph codes"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def code_item(code: Code) -> Dataset:
    """`code` as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
