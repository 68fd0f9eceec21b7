"""Attributes that are kept as the bytes they are sent as: most answers are never looked into."""

from __future__ import annotations

from gateway.dicom import encoding
from gateway.dicom.attributes import Attributes
from gateway.dicom.encoding import Element


class Encoded(Attributes):
    """A data set as :meth:`Attributes.encode` writes it in explicit VR; decoded when somebody looks, if ever.

    It takes a fifth of the memory of decoded attributes, and two objects where those have one an element: a hundred
    thousand remembered answers are then nothing to the garbage collector.
    """

    __slots__ = ()

    def __init__(self, data: bytes) -> None:
        self._explicit: bytes = data
        self._implicit: bytes | None = None

    def __getattr__(self, name: str) -> dict[int, Element]:
        # Called for a slot that is not set yet: the elements, at the first look.
        if name != "_elements":
            raise AttributeError(name)
        self._elements = encoding.read(self._explicit, implicit=False)[0]
        return self._elements

    def encode(self, *, implicit: bool) -> bytes:
        """The little endian data set; implicit VR is made once, and nothing stays decoded for it."""
        if not implicit:
            return self._explicit
        if self._implicit is None:
            elements, _ = encoding.read(self._explicit, implicit=False)
            self._implicit = encoding.write(elements.items(), implicit=True)
        return self._implicit
