"""Multipart in, multipart/related or a zip out."""

import io
import uuid
import zipfile

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from service.contract import StudyRequest, StudyResult
from service.errors import Rejected

_MAX_REQUEST_BYTES = 256 * 1024


async def read_study(request: Request, *, max_instances: int) -> tuple[StudyRequest, list[bytes]]:
    """The parts `request` and `instances` of a multipart/form-data body."""
    _expect_multipart(request, parts="request` and `instances")
    try:
        async with request.form(
            max_files=max_instances + 1, max_fields=4, max_part_size=_MAX_REQUEST_BYTES
        ) as form:
            described = form.get("request")
            text = await described.read() if isinstance(described, UploadFile) else described
            parts = form.getlist("instances")
            instances = [await part.read() for part in parts if isinstance(part, UploadFile)]
    except MultiPartException as error:
        raise _not_multipart(error) from error
    if text is None:
        raise _invalid("the part `request` is missing", field="request", fix="send a StudyRequest as JSON")
    if len(instances) != len(parts) or not instances:
        raise _invalid(
            "there is no file in the part `instances`",
            field="instances",
            fix="send each instance as a file part",
        )
    try:
        return StudyRequest.model_validate_json(text), instances
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(("request", *(str(step) for step in first["loc"])))
        raise _invalid(f"{field}: {first['msg']}", field=field, fix="send a StudyRequest as JSON") from None


async def read_radiograph(request: Request) -> bytes:
    """One radiograph: the raw body, or the only file of a multipart/form-data body."""
    if not request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        return await request.body()
    try:
        async with request.form(max_files=1, max_fields=4, max_part_size=_MAX_REQUEST_BYTES) as form:
            files = [part for part in form.values() if isinstance(part, UploadFile)]
            if files:
                return await files[0].read()
    except MultiPartException as error:
        raise _not_multipart(error) from error
    raise _invalid(
        "there is no file in the body", field="file", fix="send one radiograph as a file part or raw"
    )


async def read_radiographs(request: Request, *, max_radiographs: int) -> list[tuple[str, bytes]]:
    """Name and bytes of each file of a multipart/form-data body."""
    _expect_multipart(request, parts="files")
    try:
        async with request.form(max_files=max_radiographs, max_fields=0) as form:
            files = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
            radiographs = [(file.filename or "", await file.read()) for file in files]
    except MultiPartException as error:
        raise _not_multipart(error) from error
    if not radiographs:
        raise _invalid(
            "there is no file in the part `files`", field="files", fix="send radiographs as file parts"
        )
    return radiographs


def multipart_related(result: StudyResult, objects: tuple[bytes, ...]) -> Response:
    """The result, then each object as application/dicom (RFC 2387)."""
    boundary = uuid.uuid4().hex
    body = io.BytesIO()
    for kind, content in [
        ("application/json", result.model_dump_json().encode()),
        *(("application/dicom", content) for content in objects),
    ]:
        head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        body.write(head.encode())
        body.write(content)
        body.write(b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    content_type = f'multipart/related; type="application/json"; boundary={boundary}'
    return Response(body.getvalue(), headers={"Content-Type": content_type})


def zipped(result: StudyResult, objects: tuple[bytes, ...]) -> Response:
    """result.json, and each object under its number and kind."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("result.json", result.model_dump_json(indent=2))
        for number, (produced, content) in enumerate(zip(result.objects, objects, strict=True), start=1):
            archive.writestr(f"{number:03}_{produced.kind.value}.dcm", content)
    return Response(body.getvalue(), media_type="application/zip")


def _expect_multipart(request: Request, *, parts: str) -> None:
    kind = request.headers.get("Content-Type", "").partition(";")[0]
    if kind != "multipart/form-data":
        raise Rejected(
            415,
            "unsupported_media_type",
            f"the body is {kind or 'of no named type'}",
            field="Content-Type",
            value=kind,
            fix=f"send multipart/form-data with the parts `{parts}`",
        )


def _not_multipart(error: MultiPartException) -> Rejected:
    return Rejected(400, "invalid_multipart", f"the body is not what it says: {error.message}")


def _invalid(detail: str, *, field: str, fix: str) -> Rejected:
    return Rejected(422, "invalid_request", detail, field=field, fix=fix)
