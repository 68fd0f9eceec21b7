"""What Orthanc's users do with a peer over HTTP: ask it to commit, or store to it and then ask.

Peers go by their configured names, as Orthanc's modalities do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.commitment import orthanc
from gateway.commitment.inquiries import Inquiry
from gateway.commitment.inquiry import State
from gateway.commitment.messages import Reference
from gateway.commitment.resources import Resources, UnknownResource, reference_to
from gateway.commitment.service import Commitment
from gateway.dicom.instance import StoredInstance
from gateway.dimse.ports import Peer
from gateway.web.bodies import json_body

T = TypeVar("T")

Store = Callable[[Peer, Sequence[StoredInstance]], Sequence[str]]
"""Sends instances to a peer and returns the SOP Instance UIDs of those that it did not take."""


@dataclass(frozen=True)
class ModalityRoutes:
    """The routes, over what they need.

    Attributes:
        local_aet: our AE title.
    """

    commitment: Commitment
    resources: Resources
    store: Store
    local_aet: str

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/modalities", self.names),
            Route("/modalities/{peer}/storage-commitment", self.ask, methods=["POST"]),
            Route("/modalities/{peer}/store", self.send, methods=["POST"]),
        ]

    def names(self, _request: Request) -> Response:
        """``GET /modalities``: the names of the configured peers."""
        return JSONResponse(self.commitment.routes.names)

    async def ask(self, request: Request) -> Response:
        """``POST /modalities/{peer}/storage-commitment``: ask the peer to commit to instances."""
        body = await json_body(request)
        return await run_in_threadpool(self._ask, request.path_params["peer"], body)

    def _ask(self, name: str, body: object) -> Response:
        peer = self._peer(name)
        ask = _checked(lambda: orthanc.read_ask(body))
        wanted = [*ask.references, *(reference_to(one) for one in self._found(ask.resources))]
        if not wanted:
            raise HTTPException(400, "there are no instances to ask for")
        return JSONResponse(orthanc.started(self._request(peer, wanted, ask.timeout).transaction_uid))

    async def send(self, request: Request) -> Response:
        """``POST /modalities/{peer}/store``: send resources, and ask for their commitment if that is wanted."""
        body = await json_body(request)
        return await run_in_threadpool(self._send, request.path_params["peer"], body)

    def _send(self, name: str, body: object) -> Response:
        peer = self._peer(name)
        options = body if isinstance(body, dict) else {"Resources": body}
        if options.get("Asynchronous") is True or options.get("Synchronous") is False:
            raise HTTPException(501, "only synchronous stores: the answer comes when all is sent")
        names = _checked(lambda: orthanc.read_resources(options))
        instances = self._found(names)
        if not instances:
            raise HTTPException(400, "there is nothing to send")
        failed = frozenset(self.store(peer, instances))
        answer: dict[str, object] = {
            "Description": "REST API",
            "FailedInstancesCount": len(failed),
            "InstancesCount": len(instances),
            "LocalAet": self.local_aet,
            "ParentResources": list(names),
            "RemoteAet": peer.aet,
        }
        if failed:
            answer["FailedInstances"] = sorted(failed)
        taken = [reference_to(one) for one in instances if one.sop_instance_uid not in failed]
        if options.get("StorageCommitment") is True and taken:
            answer["StorageCommitmentTransactionUID"] = self._request(peer, taken, None).transaction_uid
        return JSONResponse(answer, 502 if not taken else 200)

    def _request(self, peer: Peer, wanted: Sequence[Reference], timeout: float | None) -> Inquiry:
        inquiry = self.commitment.request(peer.name, wanted, answer_within=timeout)
        if inquiry.state is State.REFUSED:
            raise HTTPException(502, f"{peer.name} did not take the request: {inquiry.note}")
        return inquiry

    def _peer(self, name: str) -> Peer:
        peer = self.commitment.routes.named(name)
        if peer is None:
            raise HTTPException(404, "no peer of this name")
        return peer

    def _found(self, names: Sequence[str]) -> list[StoredInstance]:
        try:
            found = [one for name in names for one in self.resources.find(name)]
        except UnknownResource as error:
            raise HTTPException(404, "a resource is not here") from error
        return list({one.sop_instance_uid: one for one in found}.values())


def _checked(read: Callable[[], T]) -> T:
    try:
        return read()
    except orthanc.BadRequest as error:
        raise HTTPException(400, str(error)) from error
