"""A DICOM client for programs: find a study and download it, as if it were a file.

    >>> from pathlib import Path
    >>> from gateway.client import Client
    >>> client = Client("ME", "GATEWAY@127.0.0.1:11112")
    >>> [study] = client.find("STUDY", PatientName="DOE^JANE", StudyInstanceUID="")
    >>> with client.retrieve(study["StudyInstanceUID"], Path("downloads")) as download:
    ...     for progress in download:
    ...         print(progress.completed, "of", progress.total)
    0 of ...
    >>> download.result().ok
    True

Nothing here knows the gateway: any Query/Retrieve SCP will do. A download lists the study first (C-FIND), leaves out
what is on the disk already, fetches the rest by C-GET on one association, or by C-MOVE to a receiver of its own where
the peer has no C-GET, and writes each instance to a file named by its SOP Instance UID that appears when it is whole.
It runs in a thread; iterating only watches it, and :meth:`Download.cancel` ends it with a C-CANCEL.
"""

from gateway.client.answers import Answer
from gateway.client.client import Client, peer
from gateway.client.download import Download, Listing, Progress, Result
from gateway.client.sending import Sent
from gateway.dimse.ports import Peer, Timeouts
from gateway.errors import GatewayError, UpstreamError
from gateway.retrieve.upstream import Via

__all__ = [
    "Answer",
    "Client",
    "Download",
    "GatewayError",
    "Listing",
    "Peer",
    "Progress",
    "Result",
    "Sent",
    "Timeouts",
    "UpstreamError",
    "Via",
    "peer",
]
