"""A node as a process of its own: `python -m tests.dicom_listener.run_node SETTINGS.json`."""

import sys
from pathlib import Path

from dicom_listener import node
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

if __name__ == "__main__":
    log.configure(json=True)
    sys.exit(node.run(ListenerSettings.model_validate_json(Path(sys.argv[1]).read_text())))
