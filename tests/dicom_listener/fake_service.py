"""A stand-in for the HTTP service: a small valid report and picture, always the same for the same request.

Run as a process with `serve`: it writes FOLDER/port and appends a line per question to FOLDER/asked, and per
answer to FOLDER/log; FOLDER/behaviour.json (status, code, delay_seconds) makes it fail or slow.
"""

import asyncio
import hashlib
import json
import socket
import uuid
from datetime import datetime
from io import BytesIO
from pathlib import Path

import uvicorn
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.contract import (
    DEVICE_UID,
    InstanceResult,
    ModelIdentity,
    ObjectKind,
    ProducedObject,
    Reference,
    Status,
    StudyRequest,
    StudyResult,
)

REPORT_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
_BOUNDARY = "skiagraph-fake"


def uid(*parts: object) -> str:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def answer(request: StudyRequest, instances: list[bytes]) -> tuple[StudyResult, list[bytes]]:
    """The result and the objects for one study: a pure function of the request and the bytes."""
    study = request.study_instance_uid
    inputs = [hashlib.sha256(content).hexdigest() for content in instances]
    key = (study, request.result_time.isoformat(), request.revision, request.model, *sorted(inputs))
    report, picture = _report(request, uid("report", *key)), _picture(request, uid("picture", *key))
    made = [(ObjectKind.STRUCTURED_REPORT, report), (ObjectKind.HEATMAP, picture)]
    contents = [_bytes(dataset) for _, dataset in made]
    model = ModelIdentity(
        name=request.model or "fake",
        version="1",
        engine="fake",
        precision="fp32",
        parity=0.0,
        weights_sha256="0",
    )
    result = StudyResult(
        study_instance_uid=study,
        revision=request.revision,
        result_time=request.result_time,
        model=model,
        results=tuple(
            InstanceResult(
                sop_instance_uid=str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID),
                status=Status.SCORED,
                score=0.5,
                percentile=50.0,
                abnormal=False,
                model=model,
                seconds=0.0,
            )
            for content in instances
        ),
        objects=tuple(
            ProducedObject(
                kind=kind,
                reference=Reference(
                    study_instance_uid=study,
                    series_instance_uid=dataset.SeriesInstanceUID,
                    sop_class_uid=dataset.SOPClassUID,
                    sop_instance_uid=dataset.SOPInstanceUID,
                ),
                sha256=hashlib.sha256(content).hexdigest(),
                size_bytes=len(content),
            )
            for (kind, dataset), content in zip(made, contents, strict=True)
        ),
    )
    return result, contents


def _common(request: StudyRequest, sop_class: str, sop_instance: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = UID(sop_class)
    dataset.SOPInstanceUID = UID(sop_instance)
    dataset.StudyInstanceUID = request.study_instance_uid
    dataset.SeriesInstanceUID = uid("series", request.study_instance_uid, modality)
    dataset.Modality = modality
    dataset.PatientName = dataset.PatientID = dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = str(request.revision)
    dataset.ContentDate = f"{request.result_time:%Y%m%d}"
    dataset.ContentTime = f"{request.result_time:%H%M%S}"
    equipment = Dataset()
    equipment.Manufacturer = "Skiagraph"
    equipment.DeviceUID = DEVICE_UID
    dataset.ContributingEquipmentSequence = [equipment]
    return dataset


def _report(request: StudyRequest, sop_instance: str) -> FileDataset:
    dataset = _common(request, REPORT_CLASS, sop_instance, "SR")
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator = "126000", "DCM"
    concept.CodeMeaning = "Imaging Measurement Report"
    dataset.ConceptNameCodeSequence = [concept]
    if request.predecessor is not None:
        instance, series, study = Dataset(), Dataset(), Dataset()
        instance.ReferencedSOPClassUID = request.predecessor.sop_class_uid
        instance.ReferencedSOPInstanceUID = request.predecessor.sop_instance_uid
        series.SeriesInstanceUID = request.predecessor.series_instance_uid
        series.ReferencedSOPSequence = [instance]
        study.StudyInstanceUID = request.study_instance_uid
        study.ReferencedSeriesSequence = [series]
        dataset.PredecessorDocumentsSequence = [study]
    return dataset


def _picture(request: StudyRequest, sop_instance: str) -> FileDataset:
    dataset = _common(request, SecondaryCaptureImageStorage, sop_instance, "OT")
    dataset.ConversionType = "WSD"
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(64)
    return dataset


def _bytes(dataset: FileDataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _multipart(result: StudyResult, contents: list[bytes]) -> bytes:
    parts = [b"Content-Type: application/json\r\n\r\n" + result.model_dump_json().encode()]
    parts += [b"Content-Type: application/dicom\r\n\r\n" + content for content in contents]
    delimiter = f"--{_BOUNDARY}\r\n".encode()
    return b"".join(delimiter + part + b"\r\n" for part in parts) + f"--{_BOUNDARY}--\r\n".encode()


def application(folder: Path) -> Starlette:
    async def studies(http: Request) -> Response:
        form = await http.form(max_files=1000)
        request_part = form["request"]
        assert isinstance(request_part, UploadFile)
        request = StudyRequest.model_validate_json(await request_part.read())
        with (folder / "asked").open("a") as asked:
            asked.write(f"{request.study_instance_uid}\n")
        instances = [await part.read() for part in form.getlist("instances") if isinstance(part, UploadFile)]
        behaviour = (
            json.loads((folder / "behaviour.json").read_text())
            if (folder / "behaviour.json").exists()
            else {}
        )
        await asyncio.sleep(behaviour.get("delay_seconds", 0.0))
        status = behaviour.get("status", 200)
        with (folder / "log").open("a") as log:
            line = {
                "at": datetime.now().astimezone().isoformat(),
                "status": status,
                "instances": len(instances),
            }
            log.write(json.dumps(line | request.model_dump(mode="json")) + "\n")
        if status != 200:
            code = behaviour.get("code", "made_to_fail")
            problem = {"title": "made to fail", "status": status, "detail": "made to fail", "code": code}
            return JSONResponse(problem, status_code=status)
        result, contents = answer(request, instances)
        return Response(_multipart(result, contents), media_type=f"multipart/related; boundary={_BOUNDARY}")

    return Starlette(routes=[Route("/v1/studies", studies, methods=["POST"])])


def serve(folder: Path) -> None:
    """Answer until the process is killed."""
    listening = socket.socket()
    # The same port after a restart: who calls us does not learn a new one.
    known = folder / "port"
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", int(known.read_text()) if known.exists() else 0))
    listening.listen()
    known.with_suffix(".new").write_text(str(listening.getsockname()[1]))
    known.with_suffix(".new").replace(known)
    uvicorn.Server(uvicorn.Config(application(folder), log_level="warning")).run(sockets=[listening])
