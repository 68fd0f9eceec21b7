"""The whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PrivateAttr

from gateway.config.document import Document, KeyPath
from gateway.config.models.archiving import Archive, Coercion
from gateway.config.models.association import Ae, Peer
from gateway.config.models.committing import Commitment, Rejection
from gateway.config.models.operating import Audit, Http, Logging
from gateway.config.models.querying import Leading, Query, Retrieve
from gateway.config.models.section import Section
from gateway.config.types import one_or_many, one_or_many_schema
from gateway.errors import ConfigError


class Config(Section):
    """The whole file."""

    ae: Ae = Ae()
    peers: dict[str, Peer] = Field(default_factory=dict)
    """By the name that other keys, the log and the metrics call them."""
    leading: Annotated[
        tuple[Leading, ...], BeforeValidator(one_or_many), Field(json_schema_extra=one_or_many_schema)
    ] = ()
    """One leading archive or a list of them, the first that knows a study wins; none: this gateway is one itself."""
    query: Query = Query()
    retrieve: Retrieve = Retrieve()
    archive: Archive
    coercion: Coercion = Coercion()
    commitment: Commitment = Commitment()
    rejection: Rejection = Rejection()
    http: Http = Http()
    audit: Audit = Audit()
    logging: Logging = Logging()

    _document: Document = PrivateAttr(default_factory=lambda: Document(Path("configuration")))

    @property
    def source(self) -> Path:
        """The file it was read from."""
        return self._document.file

    def complaint(self, path: KeyPath, text: str, hint: str = "") -> ConfigError:
        """What turned out to be wrong with a value only when it was used, such as a port in use, told as the others.

        Args:
            path: such as ``("ae", "port")``.
        """
        return ConfigError([self._document.blame(path, text, hint)])
