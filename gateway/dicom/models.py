"""Information models, their levels and keys (PS3.4 C.6), and which attributes belong to which level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import lru_cache

from gateway.dicom import tags
from gateway.dicom.tags import tag_of


class Level(IntEnum):
    """Query/Retrieve Level, ordered from the top of the hierarchy; ``name`` is the value on the wire."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3

    @property
    def unique_key(self) -> int:
        """The tag of this level's unique key (PS3.4 C.6.1.1)."""
        return UNIQUE_KEYS[self]


UNIQUE_KEYS = {
    Level.PATIENT: tags.PatientID,
    Level.STUDY: tags.StudyInstanceUID,
    Level.SERIES: tags.SeriesInstanceUID,
    Level.IMAGE: tags.SOPInstanceUID,
}


class Model(Enum):
    """A Query/Retrieve Information Model."""

    PATIENT_ROOT = "Patient Root"
    STUDY_ROOT = "Study Root"
    PATIENT_STUDY_ONLY = "Patient/Study Only"

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of this model from its root downwards."""
        return _LEVELS[self]


_LEVELS = {
    Model.PATIENT_ROOT: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
    Model.STUDY_ROOT: (Level.STUDY, Level.SERIES, Level.IMAGE),
    Model.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
}


@dataclass(frozen=True)
class QueryRetrieveService:
    """The three SOP classes of one information model (PS3.4 C.4, PS3.6 Annex A)."""

    model: Model
    find: str
    move: str
    get: str


SERVICES = (
    QueryRetrieveService(
        Model.PATIENT_ROOT,
        "1.2.840.10008.5.1.4.1.2.1.1",
        "1.2.840.10008.5.1.4.1.2.1.2",
        "1.2.840.10008.5.1.4.1.2.1.3",
    ),
    QueryRetrieveService(
        Model.STUDY_ROOT,
        "1.2.840.10008.5.1.4.1.2.2.1",
        "1.2.840.10008.5.1.4.1.2.2.2",
        "1.2.840.10008.5.1.4.1.2.2.3",
    ),
    QueryRetrieveService(
        Model.PATIENT_STUDY_ONLY,
        "1.2.840.10008.5.1.4.1.2.3.1",
        "1.2.840.10008.5.1.4.1.2.3.2",
        "1.2.840.10008.5.1.4.1.2.3.3",
    ),
)
FIND_MODELS = {service.find: service.model for service in SERVICES}
MOVE_MODELS = {service.move: service.model for service in SERVICES}
GET_MODELS = {service.get: service.model for service in SERVICES}
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"


def _tags(keywords: str) -> frozenset[int]:
    return frozenset(tag_of(keyword) for keyword in keywords.split())


PATIENT_ATTRIBUTES = _tags(
    """PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID
    PatientBirthDate PatientBirthTime PatientSex OtherPatientIDs OtherPatientNames OtherPatientIDsSequence
    PatientBirthName PatientMotherBirthName EthnicGroup EthnicGroupCodeSequence PatientComments
    PatientAddress PatientTelephoneNumbers MilitaryRank BranchOfService CountryOfResidence RegionOfResidence
    PatientReligiousPreference ConfidentialityConstraintOnPatientDataDescription QualityControlSubject
    PatientInsurancePlanCodeSequence PatientPrimaryLanguageCodeSequence PatientSpeciesDescription
    PatientSpeciesCodeSequence PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence
    ResponsiblePerson ResponsiblePersonRole ResponsibleOrganization PatientIdentityRemoved
    DeidentificationMethod DeidentificationMethodCodeSequence ReferencedPatientSequence
    SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence"""
)
"""The Patient Module and patient identification attributes (PS3.3 C.2.2, C.7.1.1): a leading archive's to correct."""

STUDY_ATTRIBUTES = _tags(
    """StudyInstanceUID StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence StudyID
    StudyDescription ReferringPhysicianName ReferringPhysicianIdentificationSequence
    ConsultingPhysicianName ConsultingPhysicianIdentificationSequence PhysiciansOfRecord
    PhysiciansOfRecordIdentificationSequence NameOfPhysiciansReadingStudy
    PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence ReferencedStudySequence
    ProcedureCodeSequence ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesDescription
    AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight PatientBodyMassIndex
    PatientSexNeutered MedicalAlerts Allergies Occupation SmokingStatus AdditionalPatientHistory
    PregnancyStatus LastMenstrualDate PatientState AdmissionID IssuerOfAdmissionIDSequence ReasonForVisit
    ReasonForVisitCodeSequence ServiceEpisodeID ServiceEpisodeDescription IssuerOfServiceEpisodeIDSequence"""
)
"""The General Study and Patient Study Modules (PS3.3 C.7.2.1, C.7.2.2): a leading archive's to correct."""

SERIES_ATTRIBUTES = _tags(
    """SeriesInstanceUID Modality SeriesNumber SeriesDate SeriesTime SeriesDescription
    SeriesDescriptionCodeSequence Laterality BodyPartExamined PatientPosition ProtocolName
    PerformingPhysicianName OperatorsName PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedProcedureStepID PerformedProcedureStepDescription RequestAttributesSequence InstitutionName
    InstitutionAddress InstitutionalDepartmentName StationName Manufacturer ManufacturerModelName
    DeviceSerialNumber SoftwareVersions FrameOfReferenceUID SmallestPixelValueInSeries LargestPixelValueInSeries
    ReferencedPerformedProcedureStepSequence TimezoneOffsetFromUTC"""
)
"""The General Series and General Equipment Modules (PS3.3 C.7.3.1, C.7.5.1), always the local instances' own."""

COMPUTED_BY_LEVEL = {
    Level.PATIENT: _tags("NumberOfPatientRelatedStudies NumberOfPatientRelatedSeries NumberOfPatientRelatedInstances"),
    Level.STUDY: _tags(
        """NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances ModalitiesInStudy SOPClassesInStudy
        AnatomicRegionsInStudyCodeSequence"""
    ),
    Level.SERIES: _tags("NumberOfSeriesRelatedInstances"),
}
COMPUTED_ATTRIBUTES = frozenset().union(*COMPUTED_BY_LEVEL.values())
"""Attributes an archive computes from the entities below; counts are returned, never matched (PS3.4 C.3.4)."""

LEADING_ATTRIBUTES = PATIENT_ATTRIBUTES | STUDY_ATTRIBUTES
"""What the leading archive's answer replaces in a local study: these and nothing else."""

_BY_LEVEL = (
    (Level.PATIENT, PATIENT_ATTRIBUTES | COMPUTED_BY_LEVEL[Level.PATIENT]),
    (Level.STUDY, STUDY_ATTRIBUTES | COMPUTED_BY_LEVEL[Level.STUDY]),
    (Level.SERIES, SERIES_ATTRIBUTES | COMPUTED_BY_LEVEL[Level.SERIES]),
)


@lru_cache(maxsize=8192)
def level_of(tag: int) -> Level:
    """The level an attribute belongs to; what is of no higher module belongs to the instance."""
    return next((level for level, members in _BY_LEVEL if tag in members), Level.IMAGE)
