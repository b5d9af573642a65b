"""Sending one study as a modality would: one association, every instance in its own transfer syntax."""

from typing import Final

from pynetdicom import AE

from skiagraph.demo.studies import DemoStudy

AE_TITLE: Final = "DEMOMODALITY"


def send(study: DemoStudy, *, host: str, port: int, called: str, calling: str = AE_TITLE) -> str:
    """C-STORE each instance (PS3.7 9.1.1); returns what went wrong, or an empty string."""
    entity = AE(ae_title=calling)
    wanted = {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in study.instances}
    for sop_class, transfer_syntax in sorted(wanted):
        entity.add_requested_context(sop_class, transfer_syntax)
    association = entity.associate(host, port, ae_title=called, max_pdu=131072)
    if not association.is_established:
        return "the association was refused"
    problems = []
    try:
        for instance in study.instances:
            try:
                status = association.send_c_store(instance)
            except (ValueError, AttributeError, RuntimeError) as error:
                problems.append(f"not sent: {error}")
                continue
            code = status.Status if "Status" in status else None
            if code != 0x0000:
                comment = f" {status.ErrorComment}" if "ErrorComment" in status else ""
                problems.append("no answer" if code is None else f"refused with 0x{code:04X}{comment}")
    finally:
        association.release()
    return "; ".join(dict.fromkeys(problems))
