"""Multipart in, multipart/related or a zip out."""

import io
import uuid
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from service.contract import StudyRequest, StudyResult
from service.errors import Rejected

_MULTIPART = "multipart/form-data"
_MAX_REQUEST_BYTES = 256 * 1024
# Starlette's own knob: a radiograph stays in memory, where it is needed as a whole; more goes to disk.
MultiPartParser.spool_max_size = 16 * 1024 * 1024
_MAX_FIELDS = 4  # `request`, and a few too many so that one can be named


@dataclass(frozen=True, kw_only=True)
class Files:
    """The parts of a form of files; the bytes are on disk where they are many. Close it."""

    files: Sequence[UploadFile]
    close: Callable[[], Awaitable[None]]


async def read_study(request: Request, *, max_instances: int) -> tuple[StudyRequest, list[bytes]]:
    """The parts `request` and `instances` of a multipart/form-data body."""
    form = await _form(request, {"request", "instances"}, max_files=max_instances + 1)
    try:
        described = form.get("request")
        text = await described.read() if isinstance(described, UploadFile) else described
        instances = [await taken(part) for part in _files(form, "instances", "each instance")]
    finally:
        await form.close()
    if text is None:
        raise _invalid("the part `request` is missing", field="request", fix="send a StudyRequest as JSON")
    try:
        return StudyRequest.model_validate_json(text), instances
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(("request", *(str(step) for step in first["loc"])))
        raise _invalid(
            f"{field}: {first['msg']}",
            field=field,
            value=_shown(first["input"]),
            fix="send a StudyRequest as JSON",
        ) from None


async def read_radiograph(request: Request) -> bytes:
    """One radiograph: the raw body, or the only file of a multipart/form-data body."""
    if _media_type(request) != _MULTIPART:
        return await request.body()
    form = await _form(request, {"file"}, max_files=1)
    try:
        return await taken(_files(form, "file", "one radiograph")[0])
    finally:
        await form.close()


async def read_radiographs(request: Request, *, max_radiographs: int) -> Files:
    """The files of a multipart/form-data body."""
    form = await _form(request, {"files"}, max_files=max_radiographs)
    return Files(files=_files(form, "files", "each radiograph"), close=form.close)


async def taken(file: UploadFile) -> bytes:
    """The bytes of a part, which keeps none of them."""
    content = await file.read()
    await file.close()
    return content


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


def _media_type(request: Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def _form(request: Request, parts: set[str], *, max_files: int) -> FormData:
    """A multipart/form-data body with these parts and no others."""
    names = "` and `".join(sorted(parts, reverse=True))
    fix = f"send multipart/form-data with the parts `{names}`"
    if (kind := _media_type(request)) != _MULTIPART:
        raise Rejected(
            415,
            "unsupported_media_type",
            f"the body is {kind or 'of no named type'}",
            field="Content-Type",
            value=kind,
            fix=fix,
        )
    try:
        form = await request.form(
            max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_MAX_REQUEST_BYTES
        )
    except HTTPException as error:  # starlette's way to say what the parser said
        raise Rejected(
            400,
            "invalid_multipart",
            f"the body cannot be taken apart: {error.detail}",
            field="body",
            fix=f"{fix}, at most {max_files} files",
        ) from error
    if unknown := sorted(set(form) - parts):
        await form.close()
        raise _invalid(
            f"there is no part {_shown(unknown[0])} in such a request", field=_shown(unknown[0]), fix=fix
        )
    return form


def _files(form: FormData, name: str, what: str) -> list[UploadFile]:
    parts = form.getlist(name)
    files = [part for part in parts if isinstance(part, UploadFile)]
    if not files or len(files) != len(parts):
        raise _invalid(
            f"there is no file in the part `{name}`", field=name, fix=f"send {what} as a file part"
        )
    return files


def _shown(value: object) -> str:
    """What was sent, as far as an answer should repeat it."""
    return repr(value)[:100]


def _invalid(detail: str, *, field: str, fix: str, value: str | None = None) -> Rejected:
    return Rejected(422, "invalid_request", detail, field=field, value=value, fix=fix)
