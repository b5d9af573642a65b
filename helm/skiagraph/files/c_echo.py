"""helm test: one association and one C-ECHO; exit code 0 only for status 0x0000 (PS3.4 annex A)."""

import sys

from pynetdicom import AE
from pynetdicom.sop_class import Verification

calling, called, host, port = sys.argv[1:]
node = AE(ae_title=calling)
node.add_requested_context(Verification)
association = node.associate(host, int(port), ae_title=called)
if not association.is_established:
    sys.exit(f"{called} at {host}:{port} did not accept an association from {calling}")
status = association.send_c_echo()
association.release()
if "Status" not in status or status.Status != 0x0000:
    sys.exit(f"{called} at {host}:{port} answered C-ECHO with {status or 'nothing'}")
print(f"{called} at {host}:{port} answered C-ECHO with 0x0000")
