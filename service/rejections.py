"""What whoever sent a radiograph can do about its rejection."""

from typing import Final

from models.rejection import RejectionCode

_WHOLE: Final = "send the whole file again, as it was made"
_HAND: Final = "send single radiographs of a hand or wrist"

FIXES: Final = {
    RejectionCode.EMPTY: "send a DICOM file, a PNG or a JPEG as the body or as the file part of a form",
    RejectionCode.NOT_AN_IMAGE: "send a DICOM file, a PNG or a JPEG; not a page, an archive or an address",
    RejectionCode.TRUNCATED: _WHOLE,
    RejectionCode.UNDECODABLE: _WHOLE,
    RejectionCode.NO_PIXELS: "send an instance that has Pixel Data",
    RejectionCode.TOO_LARGE: "send fewer pixels or raise service.max_pixels",
    RejectionCode.INVALID_HEADER: "send the instance as the modality made it",
    RejectionCode.UNSUPPORTED_SOP_CLASS: "send CR, DX For Presentation or Secondary Capture instances",
    RejectionCode.FOR_PROCESSING: "send the For Presentation instance of the same radiograph",
    RejectionCode.MULTI_FRAME: "send each frame as an instance of its own",
    RejectionCode.BLANK: "send a radiograph that shows something",
    RejectionCode.NOT_A_RADIOGRAPH: _HAND,
    RejectionCode.NOT_A_HAND: _HAND,
    RejectionCode.FOREARM: _HAND,
    RejectionCode.MULTIPLE_VIEWS: "send each view as a radiograph of its own",
}
