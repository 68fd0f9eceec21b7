"""The demo's play, act by act, and its checks."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from rich.console import Console
from rich.table import Table

from gateway.archive.local import LocalArchive
from gateway.demo import material, parts
from gateway.demo.material import CORRECTIONS, Correction
from gateway.demo.parts import VIEWER, Served
from gateway.dicom.attributes import Attributes
from gateway.dicom.tags import tag_of

SHOWN = ("PatientName", "PatientID", "AccessionNumber")
_HITS = 'dicom_gateway_query_cache_lookups_total{archive="LEADING",cache="queries",result="hit"}'


@dataclass(frozen=True)
class Study:
    """One corrected study: its files as the long-term archive got them, and what the leading archive says."""

    correction: Correction
    before: tuple[Dataset, ...]

    @property
    def uid(self) -> str:
        """Its Study Instance UID."""
        return str(self.before[0].StudyInstanceUID)


class Demo:
    """Runs the main job and keeps count of what held.

    Args:
        folder: emptied first; configurations, archives and logs are left there to be looked at.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._failed = 0
        self._checked = 0

    def play(self, *, once: bool) -> bool:
        """Play every act; stay up until Ctrl-C unless ``once``. Whether every check held."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with ExitStack() as stack:
            leading, gateway, viewer = self._set_up(stack)
            studies = self._studies()
            self._queries(gateway, studies)
            self._retrieves(gateway, viewer, studies)
            self._cached(gateway, studies[0])
            self._summary()
            if not once:
                self._stay(leading, gateway)
        return self._failed == 0

    def _set_up(self, stack: ExitStack) -> tuple[Served, Served, LocalArchive]:
        local, corrected = self._folder / "incoming" / "local", self._folder / "incoming" / "corrected"
        material.write_local(local)
        material.write_corrected(corrected)
        viewer, viewer_port = stack.enter_context(parts.viewing(self._folder / "viewer", parts.free_port(11115)))
        caller = {"aet": VIEWER, "host": "127.0.0.1", "port": viewer_port}
        everything = {**caller, "allow": ["echo", "find", "move", "get", "store"]}
        leading = self._serve(stack, "LEADING", 11113, {"VIEWER": everything, "GATEWAY": _calling("GATEWAY")}, {})
        peers = {"VIEWER": everything, "LEADING": {"aet": "LEADING", "host": "127.0.0.1", "port": leading.peer.port}}
        gateway = self._serve(stack, "GATEWAY", 11112, peers, {"leading": {"peer": "LEADING"}})
        parts.store(leading.peer, sorted(corrected.iterdir()))
        parts.store(gateway.peer, sorted(local.iterdir()))
        self._say(f"[bold]leading archive[/]   {leading.peer.aet} on port {leading.peer.port}, with the corrections")
        self._say(f"[bold]gateway[/]           {gateway.peer.aet} on port {gateway.peer.port}, over {self._folder}")
        self._say(f"[bold]viewer[/]            {VIEWER} on port {viewer_port}\n")
        return leading, gateway, viewer

    def _serve(
        self, stack: ExitStack, title: str, port: int, peers: Mapping[str, object], more: Mapping[str, object]
    ) -> Served:
        settings = {
            "ae": {"title": title, "port": parts.free_port(port)},
            "peers": dict(peers),
            "archive": {"dicomdir": "archive/DICOMDIR", "create": True, "min_free": 0},
            "http": {"port": parts.free_port(8080) if more else 0},
            **more,
        }
        return stack.enter_context(parts.serving(self._folder / title.lower(), title, settings))

    def _studies(self) -> list[Study]:
        files = {pydicom.dcmread(file).SOPInstanceUID: file for file in (self._folder / "incoming/local").iterdir()}
        before = {uid: pydicom.dcmread(file) for uid, file in files.items()}
        corrected = [pydicom.dcmread(file) for file in sorted((self._folder / "incoming/corrected").iterdir())]
        studies: list[Study] = []
        for correction in CORRECTIONS:
            mine = [one for one in corrected if one.AccessionNumber == correction.accession]
            studies.append(Study(correction, tuple(before[one.SOPInstanceUID] for one in mine)))
        return studies

    def _queries(self, gateway: Served, studies: Sequence[Study]) -> None:
        """Find by what is true now, and not by what was true once."""
        for study in studies:
            found, _ = parts.find(gateway.peer, PatientName=study.correction.name, StudyInstanceUID="")
            uids = {one.text(tag_of("StudyInstanceUID")) for one in found}
            self._check(study.uid in uids, f"{study.correction.name} finds the study that was stored as {_old(study)}")
            found, _ = parts.find(gateway.peer, AccessionNumber=study.correction.accession, StudyInstanceUID="")
            self._check(len(found) == 1, f"{study.correction.accession} finds one study")
        old, _ = parts.find(gateway.peer, PatientName=_old(studies[0]), StudyInstanceUID="")
        self._check(not old, f"{_old(studies[0])}, the name before, finds nothing")

    def _retrieves(self, gateway: Served, viewer: LocalArchive, studies: Sequence[Study]) -> None:
        """Retrieve, and hold what was received beside what was stored."""
        table = Table(title="\nThe same instances: as stored, as answered, as received", title_justify="left")
        for column in ("study", "attribute", "long-term archive", "C-FIND answer", "received by the viewer"):
            table.add_column(column)
        for study in studies:
            final = parts.move(gateway.peer, study.uid)
            after = [pydicom.dcmread(one.path) for one in viewer.instances(study_uids=[study.uid])]
            (answer,), _ = parts.find(gateway.peer, StudyInstanceUID=study.uid, **dict.fromkeys(SHOWN, ""))
            self._rows(table, study, answer, after)
            self._judge(study, final.completed, after)
        for name in material.UNCORRECTED:
            uid = self._uid_of(name)
            parts.move(gateway.peer, uid)
            (one,) = viewer.instances(study_uids=[uid])
            stored = pydicom.dcmread(material.shipped(name))
            self._check(pydicom.dcmread(one.path) == stored, f"{name}, unknown to the leading archive, came as it was")
        self._console.print(table)

    def _rows(self, table: Table, study: Study, answer: Attributes, after: Sequence[Dataset]) -> None:
        modality = study.before[0].Modality
        for number, keyword in enumerate(SHOWN):
            old, new = str(study.before[0].get(keyword, "")), str(after[0].get(keyword, "")) if after else "-"
            label = f"{modality}, {len(after)} instance{'s' if len(after) > 1 else ''}" if number == 0 else ""
            colour = "green" if new != old else "default"
            table.add_row(label, keyword, old or "(empty)", answer.text(tag_of(keyword)), f"[{colour}]{new}[/]")

    def _judge(self, study: Study, completed: int, after: Sequence[Dataset]) -> None:
        want = study.correction
        name = f"{study.before[0].Modality} study {want.accession}"
        self._check(completed == len(after) == len(study.before), f"{name}: all {len(study.before)} instances arrived")
        values = {(str(one.PatientName), one.PatientID, one.AccessionNumber) for one in after}
        self._check(values == {(want.name, want.patient_id, want.accession)}, f"{name}: the corrections are in them")
        stored = {one.SOPInstanceUID: one.PixelData for one in study.before}
        same = all(one.PixelData == stored.get(one.SOPInstanceUID) for one in after)
        self._check(same, f"{name}: pixel data is the same, byte for byte")

    def _cached(self, gateway: Served, study: Study) -> None:
        """The same question twice: the second answer comes from the cache."""
        question = {"PatientID": study.correction.patient_id, "StudyDate": "", "StudyDescription": ""}
        hits = gateway.metric(_HITS)
        first, cold = parts.find(gateway.peer, **question)
        second, warm = parts.find(gateway.peer, **question)
        gained = gateway.metric(_HITS) - hits
        self._say(f"\nfirst query {cold * 1e3:.2f} ms (asked the leading archive), second {warm * 1e3:.2f} ms (cache)")
        self._check(first == second and gained >= 1, "the second answer came from the cache and is the same")

    def _uid_of(self, name: str) -> str:
        return str(pydicom.dcmread(material.shipped(name), stop_before_pixels=True).StudyInstanceUID)

    def _check(self, held: bool, what: str) -> None:  # noqa: FBT001 - the thing checked
        self._checked += 1
        self._failed += not held
        self._say(f"[green]✔[/] {what}" if held else f"[red bold]✘ {what}[/]")

    def _summary(self) -> None:
        held = self._checked - self._failed
        colour = "green" if not self._failed else "red"
        self._say(f"\n[{colour} bold]{held} of {self._checked} checks held[/]")

    def _stay(self, leading: Served, gateway: Served) -> None:
        here = f"-aet {VIEWER} -aec GATEWAY 127.0.0.1 {gateway.peer.port}"
        self._say(
            f"""
Try it from another terminal (Debian: apt install dcmtk):

  findscu -S {here} -k QueryRetrieveLevel=STUDY -k PatientName='Dow*' -k PatientID -k AccessionNumber
  movescu -P {here} -aem {VIEWER} -k QueryRetrieveLevel=PATIENT -k PatientID=H-1003
  findscu -S -aet {VIEWER} -aec LEADING 127.0.0.1 {leading.peer.port} -k QueryRetrieveLevel=STUDY -k PatientName

  metrics   http://127.0.0.1:{gateway.http_port}/metrics
  health    http://127.0.0.1:{gateway.http_port}/readyz
  files     {self._folder}

Ctrl-C stops everything."""
        )
        signal.sigwait({signal.SIGINT, signal.SIGTERM})

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _old(study: Study) -> str:
    return str(study.before[0].PatientName)


def _calling(aet: str) -> dict[str, object]:
    """A peer that only calls; its port is never used."""
    return {"aet": aet, "host": "127.0.0.1", "port": 1, "allow": ["echo", "find", "get", "move"]}
