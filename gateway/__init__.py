"""A DICOM query/retrieve gateway that answers with the leading archive's patient and study attributes.

The way of a request, from the association in to the association out::

    association in
      dimse        negotiates (pynetdicom's words), then moves PDUs in a small blocking loop of its own
      coercion     rules on the query's keys
      query        the effective view: asks the leading archive through the cache, and the local index
        leading    the leading archive as a source: batched look-ups, circuit breaker
        archive    the local DICOMDIR file-set as a source: index, object files
      coercion     rules on the answers, or on the instances about to be sent
      dimse        encodes the answers, or sends the instances as C-STORE sub-operations
    association out

The one idea: for each study, the *effective attributes* are the leading archive's patient and study attributes
where it knows the study, else the local ones, and then the coercion rules. A query answers exactly the entities whose
effective attributes match; a retrieve sends the local instances with the effective attributes spliced in.

``daemon`` is the composition root that builds this chain in reading order. Imports only go down.
"""

from importlib.metadata import version

__version__ = version("dicom-gateway")

IMPLEMENTATION_CLASS_UID = "2.25.329800735698586629295641978511506172918"
"""Implementation Class UID (PS3.7 D.3.3.2): derived from a UUID, as PS3.5 B.2 allows without registration."""

IMPLEMENTATION_VERSION_NAME = f"LEADGW_{''.join(version('dicom-gateway').split('.')[:3])}"[:16]
