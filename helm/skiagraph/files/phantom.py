"""helm test: a drawn hand goes in by C-STORE; exit code 0 when its report has been delivered or a rule drops it."""

import json
import sys
import time
import urllib.error
import urllib.request

from pydicom.uid import generate_uid

from skiagraph.demo.send import send
from skiagraph.demo.studies import DemoStudy
from skiagraph.phantom import PhantomKind, as_dicom, draw

UNDER_WAY = {None, "receiving", "ready", "scored"}

calling, called, host, port, console, patience_seconds = sys.argv[1:]
phantom = as_dicom(draw(PhantomKind.PLAIN, seed=1), study_instance_uid=generate_uid())
uid = str(phantom.StudyInstanceUID)
study = DemoStudy(name="phantom", study_instance_uid=uid, instances=[phantom])
problem = send(study, host=host, port=int(port), called=called, calling=calling)
if problem:
    sys.exit(f"{called} at {host}:{port} did not take the phantom from {calling}: {problem}")
deadline = time.monotonic() + float(patience_seconds)
state = None
while state in UNDER_WAY and time.monotonic() < deadline:
    time.sleep(1)
    try:
        state = json.load(urllib.request.urlopen(f"{console}/studies/{uid}", timeout=10))["state"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{console}/studies/{uid} answers {error.code}: the phantom was taken, and is not known")
print(f"phantom study {uid}: {state}")
if state == "dropped":
    print("a rule drops phantoms (settings.listener.rules, shipped_rules): received, as it should be, and not scored")
sys.exit(0 if state in {"delivered", "dropped"} else 1)
