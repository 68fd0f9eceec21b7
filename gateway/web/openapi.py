"""The description of the storage commitment routes, OpenAPI 3.1, served at ``/openapi.json``.

Written by hand beside the routes; a test holds it against them and against real answers.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import __version__
from gateway.commitment import inquiry, job

Json = dict[str, Any]

_UID: Json = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$", "maxLength": 64}
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TIME: Json = {"type": "string", "format": "date-time"}


def _object(required: Json, optional: Json | None = None) -> Json:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _orders(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answers(text: str, schema: Json, *failures: int) -> Json:
    found: Json = {"200": {"description": text, "content": {"application/json": {"schema": schema}}}}
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    for status in (401, 403, 429, *failures):
        found[str(status)] = {"description": _FAILURES[status], "content": problem}
    return found


_FAILURES = {
    400: "The body is not what the route takes.",
    401: "A bearer token is needed.",
    403: "This caller may not do that.",
    404: "There is nothing of that name.",
    409: "Not in the state it is in.",
    429: "Too many wrong tokens came from this address.",
    501: "Asynchronous stores are not offered.",
    502: "The peer could not be reached, or did not take it.",
}
_NAMED = {"SOPClassUID": _UID, "SOPInstanceUID": _UID}
_RESOURCES: Json = {
    "description": "DICOM UIDs, Patient IDs or Orthanc identifiers of what is here; one, or a list.",
    "oneOf": [_TEXT, _list(_TEXT)],
}
_SCHEMAS: Json = {
    "Problem": _object({"title": _TEXT, "status": _COUNT}, {"type": _TEXT, "detail": _TEXT}),
    "Instance": _object(_NAMED),
    "Ask": _object(
        {},
        {
            "DicomInstances": _list(
                {"oneOf": [_ref("Instance"), {"type": "array", "items": _UID, "minItems": 2, "maxItems": 2}]}
            ),
            "Resources": _RESOURCES,
            "Timeout": {"type": "number", "minimum": 0, "description": "Seconds for the response to the request."},
        },
    ),
    "Started": _object({"ID": _UID, "Path": _TEXT}),
    "Report": _object(
        {
            "RemoteAET": _TEXT,
            "Status": {"enum": ["Pending", "Success", "Failure"]},
            "State": {"enum": [one.value for one in inquiry.State]},
        },
        {
            "Note": _TEXT,
            "Success": _list(_ref("Instance")),
            "Failures": _list(_object({**_NAMED, "FailureReason": _COUNT, "Description": _TEXT})),
        },
    ),
    "StoreOrder": _object({"Resources": _RESOURCES}, {"StorageCommitment": {"type": "boolean", "default": False}}),
    "Stored": _object(
        {
            "Description": _TEXT,
            "FailedInstancesCount": _COUNT,
            "InstancesCount": _COUNT,
            "LocalAet": _TEXT,
            "ParentResources": _list(_TEXT),
            "RemoteAet": _TEXT,
        },
        {"FailedInstances": _list(_UID), "StorageCommitmentTransactionUID": _UID},
    ),
    "Job": _object(
        {
            "transaction_uid": _UID,
            "state": {"enum": [one.value for one in job.State]},
            "requester": _TEXT,
            "peer": _TEXT,
            "instances": _COUNT,
            "attempts": _COUNT,
            "created": _TIME,
            "updated": _TIME,
            "note": _TEXT,
        },
        {
            "due": {"oneOf": [_TIME, {"type": "null"}]},
            "answer": {"type": ["string", "null"]},
            "decided": _list(
                _object({"sop_class_uid": _UID, "sop_instance_uid": _UID, "reason": {"type": ["integer", "null"]}})
            ),
        },
    ),
    "Inquiry": _object(
        {
            "transaction_uid": _UID,
            "state": {"enum": [one.value for one in inquiry.State]},
            "peer": _TEXT,
            "aet": _TEXT,
            "instances": _COUNT,
            "created": _TIME,
            "updated": _TIME,
            "note": _TEXT,
        },
        {"expires": {"oneOf": [_TIME, {"type": "null"}]}},
    ),
}


def _parameter(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


_PEER = _parameter("peer", "Name of a configured peer.", _TEXT)
_TRANSACTION = _parameter("transaction", "Transaction UID.", _UID)
_EVENT = _parameter("event", "What to do.", {"enum": ["pause", "resume", "cancel"]})

_PATHS: Json = {
    "/modalities": {
        "get": {"summary": "Names of the configured peers", "responses": _answers("Names.", _list(_TEXT))},
    },
    "/modalities/{peer}/storage-commitment": {
        "post": {
            "summary": "Ask a peer to commit to instances",
            "parameters": [_PEER],
            "requestBody": _orders(_ref("Ask")),
            "responses": _answers("The peer took the request.", _ref("Started"), 400, 404, 502),
        },
    },
    "/modalities/{peer}/store": {
        "post": {
            "summary": "Send instances to a peer, and ask for their commitment if that is wanted",
            "parameters": [_PEER],
            "requestBody": _orders({"oneOf": [_ref("StoreOrder"), _TEXT, _list(_TEXT)]}),
            "responses": _answers("All or some were sent.", _ref("Stored"), 400, 404, 501, 502),
        },
    },
    "/storage-commitment/{transaction}": {
        "get": {
            "summary": "How a transaction of ours stands",
            "parameters": [_TRANSACTION],
            "responses": _answers("Its report.", _ref("Report"), 404),
        },
    },
    "/storage-commitment/{transaction}/remove": {
        "post": {
            "summary": "Delete here what the peer has committed, after a full success",
            "parameters": [_TRANSACTION],
            "responses": _answers("Deleted.", _object({"Removed": _COUNT}), 404, 409),
        },
    },
    "/api/commitment/inquiries": {
        "get": {"summary": "What we asked of peers", "responses": _answers("Newest first.", _list(_ref("Inquiry")))},
    },
    "/api/commitment/jobs": {
        "get": {"summary": "What peers asked of us", "responses": _answers("Newest first.", _list(_ref("Job")))},
    },
    "/api/commitment/jobs/{transaction}": {
        "get": {
            "summary": "One job, with its instances",
            "parameters": [_TRANSACTION],
            "responses": _answers("The job.", _ref("Job"), 404),
        },
    },
    "/api/commitment/jobs/{transaction}/{event}": {
        "post": {
            "summary": "Pause, resume or cancel a job",
            "parameters": [_TRANSACTION, _EVENT],
            "responses": _answers("The job after it.", _ref("Job"), 404, 409),
        },
    },
}


def description() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "dicom-gateway: storage commitment", "version": __version__},
        "paths": _PATHS,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def openapi(_request: Request) -> Response:
    """``GET /openapi.json``."""
    return JSONResponse(description())
