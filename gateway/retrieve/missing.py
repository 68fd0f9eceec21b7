"""What is to be pulled from the leading archive, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """An instance that is to be pulled.

    Attributes:
        sop_class_uid: empty when the leading archive does not tell.
    """

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True)
class Missing:
    """What is to be pulled of one study.

    Attributes:
        patient_id: as the leading archive has it.
        whole_series: series of which everything is to be pulled, so that they can be asked for as such.
    """

    patient_id: str
    study_instance_uid: str
    instances: tuple[Remote, ...]
    whole_series: frozenset[str] = frozenset()
