"""What schemathesis sends as files (SCHEMATHESIS_HOOKS): good, damaged, and anything at all."""

import io
import zlib
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

from skiagraph.phantom import PhantomKind, as_dicom, draw
from tests.runners.radiographs import dicom_file, drawn

PHANTOM = draw(PhantomKind.PLAIN, seed=3, width=256, height=320)


def _picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray((PHANTOM.pixels >> 4).astype(np.uint8)).save(file, kind)
    return file.getvalue()


def _phantom() -> bytes:
    """A file that passes for a hand, so that what comes after the gate is asked too."""
    file = io.BytesIO()
    instance = as_dicom(PHANTOM, study_instance_uid="1.2.3")
    del instance.StudyInstanceUID  # an instance of whatever study is asked for
    instance.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _damaged(good: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda place, new, end: (good[:place] + new + good[place + len(new) :])[:end],
        st.integers(0, len(good) - 1),
        st.binary(max_size=16),
        st.integers(len(good) // 2, len(good)),
    )


GOOD = {
    "image/png": [_picture("PNG")],
    "image/jpeg": [_picture("JPEG")],
    "application/dicom": [_phantom(), dicom_file(drawn(), StudyInstanceUID=None)],
}
for media_type, good in GOOD.items():
    schemathesis.openapi.media_type(
        media_type, st.one_of(st.sampled_from(good), *map(_damaged, good), st.binary(max_size=300))
    )


@schemathesis.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    """Half of the lists of files hold good ones: of lists, schemathesis does not ask the media type."""
    for part in {"instances", "files"} & set(body if isinstance(body, dict) else ()):
        if isinstance(body[part], list) and (dice := zlib.crc32(repr(body).encode())) % 2:
            body[part] = [GOOD["application/dicom"][dice // 2 % 2] for _ in body[part]]
    return body
