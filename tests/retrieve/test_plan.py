from collections.abc import Mapping, Sequence

from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.identifier import Retrieve
from gateway.dicom.instance import StoredInstance
from gateway.dicom.models import Level, Model
from gateway.query.ports import never
from gateway.retrieve.plan import Plan, Planner, build

JONES = Attributes.of({"PatientName": "Jones^Mary"})


def stored(study: str, series: str, instance: str) -> StoredInstance:
    return StoredInstance("P", study, series, instance, "1.2", "1.2.840.10008.1.2", f"/{instance}", 1000, 300)


FILES = [stored("1.1", "1.1.2", "1.1.2.1"), stored("1.1", "1.1.1", "1.1.1.1"), stored("1.2", "1.2.1", "1.2.1.1")]


class Files:
    def instances(
        self, *, study_uids: Sequence[str] = (), series_uids: Sequence[str] = (), sop_uids: Sequence[str] = ()
    ) -> list[StoredInstance]:
        assert study_uids
        assert not series_uids
        assert not sop_uids
        return FILES


class OneView:
    """An effective view in which a corrected patient ID names a study."""

    def resolve(self, retrieve: Retrieve, caller: Caller) -> Mapping[str, Attributes | None]:
        assert caller.aet == "VIEWER"
        return {"1.1": JONES} if retrieve.uids.get(Level.PATIENT) == ("NEW",) else {}


def test_instances_are_grouped_by_study_and_series_with_the_leading_attributes() -> None:
    retrieve = Retrieve(Model.STUDY_ROOT, Level.STUDY, {Level.STUDY: ("1.1", "1.2")})
    plan = build(retrieve, {"1.1": JONES, "1.2": None}, FILES)
    assert [(one.study_instance_uid, one.leading) for one in plan.studies] == [("1.1", JONES), ("1.2", None)]
    assert plan.sop_instance_uids == ["1.1.1.1", "1.1.2.1", "1.2.1.1"]
    assert plan.total == 3


def test_what_the_request_does_not_name_is_left_out() -> None:
    uids: dict[Level, tuple[str, ...]] = {Level.STUDY: ("1.1",), Level.SERIES: ("1.1.1", "1.2.1")}
    plan = build(Retrieve(Model.STUDY_ROOT, Level.SERIES, uids), {"1.1": None}, FILES)
    assert plan.sop_instance_uids == ["1.1.1.1"]


def test_a_corrected_patient_id_finds_the_study_and_the_old_one_does_not() -> None:
    def plan_for(patient_id: str) -> Plan:
        retrieve = Retrieve(Model.PATIENT_ROOT, Level.PATIENT, {Level.PATIENT: (patient_id,)})
        return Planner(OneView(), Files())(retrieve, Caller("VIEWER"), never)

    assert plan_for("NEW").sop_instance_uids == ["1.1.1.1", "1.1.2.1"]
    assert plan_for("OLD") == Plan(())


def test_a_plan_prints_counts_and_no_patient() -> None:
    retrieve = Retrieve(Model.PATIENT_ROOT, Level.PATIENT, {Level.PATIENT: ("NEW",)})
    plan = Planner(OneView(), Files())(retrieve, Caller("VIEWER"), never)
    assert str(plan) == "1.1: 2 here, 0 to be pulled, attributes of the leading archive"
