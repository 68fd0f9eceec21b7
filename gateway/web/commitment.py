"""Storage commitment over HTTP: Orthanc's report routes at their own paths, and the jobs of peers under /api."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.commitment import inquiry, job, orthanc
from gateway.commitment.inquiries import Inquiry
from gateway.commitment.jobs import Job
from gateway.commitment.records import Decided, UnknownTransaction
from gateway.commitment.service import Commitment

Remove = Callable[[Sequence[str]], int]
"""Deletes instances by SOP Instance UID, safely, and returns how many there were."""

_EVENTS = {"pause": job.Event.PAUSE, "resume": job.Event.RESUME, "cancel": job.Event.CANCEL}
_MOST = 1000


class CommitmentRoutes:
    """The routes, over what they need."""

    def __init__(self, commitment: Commitment, remove: Remove) -> None:
        self._commitment = commitment
        self._remove = remove

    def routes(self) -> list[Route]:
        """All of them; those that change something take POST."""
        return [
            Route("/storage-commitment/{transaction}", self.report),
            Route("/storage-commitment/{transaction}/remove", self.remove, methods=["POST"]),
            Route("/api/commitment/jobs", self.jobs),
            Route("/api/commitment/jobs/{transaction}", self.job),
            Route("/api/commitment/jobs/{transaction}/{event:str}", self.change, methods=["POST"]),
            Route("/api/commitment/inquiries", self.inquiries),
        ]

    def report(self, request: Request) -> Response:
        """``GET /storage-commitment/{id}``: how a transaction of ours stands."""
        found, instances = self._inquiry(request)
        return JSONResponse(orthanc.report(found, instances))

    def remove(self, request: Request) -> Response:
        """``POST /storage-commitment/{id}/remove``: delete here what the peer has committed, all of it."""
        found, instances = self._inquiry(request)
        if found.state is not inquiry.State.SUCCESS:
            raise HTTPException(409, f"only after a full success; the transaction is {found.state.value}")
        uids = [one.reference.sop_instance_uid for one in instances]
        return JSONResponse({"Removed": self._remove(uids)})

    def _inquiry(self, request: Request) -> tuple[Inquiry, Sequence[Decided]]:
        uid = request.path_params["transaction"]
        inquiries = self._commitment.ledgers.inquiries
        self._commitment.expire()
        try:
            return inquiries.inquiry(uid), inquiries.instances(uid)
        except UnknownTransaction as error:
            raise HTTPException(404, "no storage commitment transaction with this UID") from error

    def inquiries(self, _request: Request) -> Response:
        """``GET /api/commitment/inquiries``: what we asked of peers, the newest first."""
        self._commitment.expire()
        return JSONResponse(
            [describe_inquiry(one) for one in self._commitment.ledgers.inquiries.inquiries(limit=_MOST)]
        )

    def jobs(self, _request: Request) -> Response:
        """``GET /api/commitment/jobs``: what peers asked of us, the newest first."""
        return JSONResponse([describe_job(one) for one in self._commitment.ledgers.jobs.jobs(limit=_MOST)])

    def job(self, request: Request) -> Response:
        """``GET /api/commitment/jobs/{id}``: one of them, with its instances."""
        uid = request.path_params["transaction"]
        jobs = self._commitment.ledgers.jobs
        try:
            found = describe_job(jobs.job(uid))
        except UnknownTransaction as error:
            raise HTTPException(404, "no job with this Transaction UID") from error
        found["decided"] = [describe_decided(one) for one in jobs.instances(uid)]
        return JSONResponse(found)

    def change(self, request: Request) -> Response:
        """``POST /api/commitment/jobs/{id}/{pause|resume|cancel}``."""
        event = _EVENTS.get(request.path_params["event"])
        if event is None:
            raise HTTPException(404)
        try:
            found = self._commitment.ledgers.jobs.apply(
                request.path_params["transaction"], event, self._commitment.clock()
            )
        except UnknownTransaction as error:
            raise HTTPException(404, "no job with this Transaction UID") from error
        except job.NotPossible as error:
            raise HTTPException(409, str(error)) from error
        self._commitment.wake()
        return JSONResponse(describe_job(found))


def describe_job(found: Job) -> dict[str, object]:
    """A job for people and scripts; the command line prints the same."""
    return {
        "transaction_uid": found.transaction_uid,
        "state": found.state.value,
        "requester": found.requester.aet,
        "peer": found.requester.peer,
        "instances": found.instances,
        "attempts": found.progress.attempts,
        "created": _iso(found.created),
        "updated": _iso(found.updated),
        "due": _iso(found.progress.due) if found.state in job.OPEN else None,
        "answer": None if found.answer is None else f"{found.answer:04X}H",
        "note": found.note,
    }


def describe_decided(one: Decided) -> dict[str, object]:
    """An instance of a job; ``reason`` is null while open, 0 when committed."""
    reference = one.reference
    return {
        "sop_class_uid": reference.sop_class_uid,
        "sop_instance_uid": reference.sop_instance_uid,
        "reason": one.reason,
    }


def describe_inquiry(found: Inquiry) -> dict[str, object]:
    """An inquiry for people and scripts; the command line prints the same."""
    return {
        "transaction_uid": found.transaction_uid,
        "state": found.state.value,
        "peer": found.peer,
        "aet": found.aet,
        "instances": found.instances,
        "created": _iso(found.created),
        "updated": _iso(found.updated),
        "expires": _iso(found.due) if found.state in inquiry.WAITING else None,
        "note": found.note,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
