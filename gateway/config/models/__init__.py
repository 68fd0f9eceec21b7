"""The keys of the configuration, their types, units and defaults; conf/gateway.yaml shows every one of them.

``None`` where a model allows it means what the key's text says it means; a section that may be left out has defaults
for all of its keys.
"""

from gateway.config.models.archiving import Archive, Coercion, Conflict, Durability, OnlyIf, Retain, RetainRule
from gateway.config.models.association import (
    AcceptTimeouts,
    AcceptTls,
    Ae,
    CommitmentReport,
    Peer,
    Permission,
    RequestTimeouts,
    RequestTls,
    Send,
)
from gateway.config.models.committing import Commitment, CommitmentRetry, OnResend, Rejection, RejectionAction, Verify
from gateway.config.models.operating import Audit, Http, HttpTls, LogFormat, Logging, LogLevel, Syslog, Transport
from gateway.config.models.querying import (
    Breaker,
    Completeness,
    Leading,
    Query,
    QueryCache,
    Retrieve,
    Scope,
    Unexpected,
    Via,
)
from gateway.config.models.root import Config
from gateway.config.models.section import Section

__all__ = [
    "AcceptTimeouts",
    "AcceptTls",
    "Ae",
    "Archive",
    "Audit",
    "Breaker",
    "Coercion",
    "Commitment",
    "CommitmentReport",
    "CommitmentRetry",
    "Completeness",
    "Config",
    "Conflict",
    "Durability",
    "Http",
    "HttpTls",
    "Leading",
    "LogFormat",
    "LogLevel",
    "Logging",
    "OnResend",
    "OnlyIf",
    "Peer",
    "Permission",
    "Query",
    "QueryCache",
    "Rejection",
    "RejectionAction",
    "RequestTimeouts",
    "RequestTls",
    "Retain",
    "RetainRule",
    "Retrieve",
    "Scope",
    "Section",
    "Send",
    "Syslog",
    "Transport",
    "Unexpected",
    "Verify",
    "Via",
]
