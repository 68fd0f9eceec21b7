"""The gateway's commitment in a process of its own, to be killed.

``python -m tests.commitment.runner FOLDER PORT PEERPORT``
"""

import signal
import sys
from pathlib import Path

from gateway.dimse.ports import Peer
from tests.commitment.nodes import FAST, gateway_node

if __name__ == "__main__":
    folder, port, peer = sys.argv[1:]
    with gateway_node(Path(folder), Peer("modality", "MODALITY", "127.0.0.1", int(peer), FAST), port=int(port)):
        signal.pause()
