"""From an entity to an answer: exactly what was asked for, in a character set the asker reads (PS3.4 C.4.1.1.3.2).

An answer has every requested key, with zero length where the value is unknown, the unique keys of the level and
above, Query/Retrieve Level, Retrieve AE Title, Instance Availability, and nothing else. Sequences return only the
requested keys of those items that match. An entity without its unique key is no answer: it would make viewers show
nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway import metrics
from gateway.dicom import charset, encoding, matching, tags
from gateway.dicom.attributes import Attributes, Element, element_of
from gateway.dicom.identifier import Query
from gateway.dicom.keys import Empties, SequenceKey
from gateway.logs import get_logger
from gateway.query.ports import QuerySource, Request

_log = get_logger("query")
_NO_AVAILABILITY = Element("CS", b"")
_EMPTIES = Empties(empty=True, absent=True)


class Projection:
    """The shape of one query's answers.

    Attributes:
        shape: an answer before anything is known of its entity, in ascending order of the tags.
        asked: those of its tags that an entity's elements fill.
        unique: the unique key of the level.
        declared: the character set that the query declares, if it does.
    """

    def __init__(self, query: Query, retrieve_aet: str) -> None:
        self._level = query.level.name
        self._terms = query.keys.terms
        self.declared = query.keys.only([tags.SpecificCharacterSet])
        self.unique = query.level.unique_key
        self._keys = {tag: element.vr for tag, element in query.keys.items() if tag != tags.SpecificCharacterSet}
        self._sequences = _sequences(query)
        self._given: dict[int, Element] = {}
        for level in query.model.levels:
            if level <= query.level:
                self._keys.setdefault(level.unique_key, "LO" if level.unique_key == tags.PatientID else "UI")
                if len(values := query.uids(level)) == 1:
                    self._given[level.unique_key] = element_of(level.unique_key, values[0], ())
        constant = {
            tags.QueryRetrieveLevel: element_of(tags.QueryRetrieveLevel, query.level.name, ()),
            tags.RetrieveAETitle: element_of(tags.RetrieveAETitle, retrieve_aet, ()),
            **self.declared,
        }
        empty = {tag: self._given.get(tag) or Element(vr, b"") for tag, vr in self._keys.items()}
        self.shape = dict(sorted({**empty, **constant, tags.InstanceAvailability: _NO_AVAILABILITY}.items()))
        self.asked = tuple(tag for tag in self.shape if tag not in constant)

    def answer(self, entity: Attributes) -> Attributes | None:
        """The answer for an entity; None when it lacks the unique key of the level."""
        unique = entity.get(self.unique)
        if unique is None or not unique.value.strip(b" \0"):
            return None
        elements = self.shape.copy()  # in the order of the tags, with what is given and what stays empty
        get = entity.get
        for tag in self.asked:
            element = get(tag)
            if element is not None and element.value:
                elements[tag] = element
        for tag, (key, wanted) in self._sequences.items():
            if elements[tag].vr == "SQ" and elements[tag].value:
                elements[tag] = Element("SQ", _items(entity, tag, key, wanted))
        if not elements[tags.InstanceAvailability].value:
            del elements[tags.InstanceAvailability]
        return self._written(elements, entity)

    def _written(self, elements: dict[int, Element], entity: Attributes) -> Attributes:
        """The answer in the query's character set, or in UTF-8 where that cannot represent it (PS3.4 C.4.1.1.3.2)."""
        answer = Attributes(elements)
        if (not self._terms and tags.SpecificCharacterSet not in entity) or entity.terms == self._terms:
            return answer
        if answer.is_ascii():
            return answer
        answer = Attributes({**elements, **entity.only([tags.SpecificCharacterSet])})
        try:
            return answer.in_charset(self._terms)
        except charset.Unrepresentable:
            return answer.in_charset((charset.UTF8,))

    def answers(self, entities: Iterable[Attributes]) -> Iterator[Attributes]:
        """Yield the answers for entities; one without its unique key is counted and left out."""
        for entity in entities:
            answer = self.answer(entity)
            if answer is not None:
                yield answer
                continue
            metrics.QUERY_ANSWERS_DROPPED.labels(self._level).inc()
            _log.warning("answer without its unique key dropped", level=self._level)


class ProjectedSource:
    """Puts the answers of a source into shape; the last source before the wire."""

    def __init__(self, source: QuerySource, retrieve_aet: str) -> None:
        self._source = source
        self._retrieve_aet = retrieve_aet

    def find(self, request: Request) -> Iterator[Attributes]:
        """Yield answers as they go out; see :class:`~gateway.query.ports.QuerySource`."""
        return Projection(request.query, self._retrieve_aet).answers(self._source.find(request))


_Shape = tuple[SequenceKey | None, Attributes]


def _sequences(query: Query) -> dict[int, _Shape]:
    """For each sequence asked for item by item: which items, and which of their attributes."""
    compiled = {key.tag: key for key in matching.compile(query).keys if isinstance(key, SequenceKey)}
    shapes: dict[int, _Shape] = {}
    for tag, element in query.keys.items():
        items = query.keys.sequence(tag) if element.vr == "SQ" else ()
        if items and set(items[0]) - {tags.SpecificCharacterSet}:
            shapes[tag] = (compiled.get(tag), items[0])
    return shapes


def _items(entity: Attributes, tag: int, key: SequenceKey | None, wanted: Attributes) -> bytes:
    """The matching items of a sequence, each with the wanted attributes only."""
    kept = [item for item in entity.sequence(tag) if key is None or key.matches_item(item, _EMPTIES)]
    return b"".join(encoding.item(_item(item, wanted).encode(implicit=False)) for item in kept)


def _item(item: Attributes, wanted: Attributes) -> Attributes:
    elements: dict[int, Element] = {}
    for tag, element in wanted.items():
        if tag == tags.SpecificCharacterSet:
            continue
        nested = wanted.sequence(tag) if element.vr == "SQ" else ()
        if nested and nested[0].keys() - {tags.SpecificCharacterSet}:
            elements[tag] = Element("SQ", _items(item, tag, None, nested[0]))
        else:
            elements[tag] = item.get(tag) or Element(element.vr, b"")
    return Attributes(elements)
