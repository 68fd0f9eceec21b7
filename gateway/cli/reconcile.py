"""``archive diff`` and ``archive reconcile``: what the leading archive knows otherwise, shown and written down."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.archive.local import LocalArchive
from gateway.cli.archive import group
from gateway.cli.common import (
    OPERATION_FAILED,
    ConfigOption,
    JsonOption,
    configuration,
    print_json,
    print_table,
    problem,
)
from gateway.daemon.archiving import build_archive
from gateway.daemon.leading import build_leading
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.errors import BadInstance, ConfigError, StorageError
from gateway.reconcile.difference import StudyDifference, compare
from gateway.reconcile.reconciler import Reconciler

StudyOption = Annotated[list[str] | None, typer.Option("--study", metavar="UID", help="Only this study; repeatable.")]


def register(app: typer.Typer) -> None:  # noqa: ARG001  # the verbs go into the group that ``archive`` adds
    """Add the verbs to the group."""
    group.command("diff")(diff)
    group.command("reconcile")(reconcile)


def diff(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line an attribute.")] = False,
    study: StudyOption = None,
) -> None:
    """List the studies whose attributes differ from the leading archive's."""
    with _compared(config, study) as (_, _, found):
        differing = list(found)
    if as_json:
        print_json([_plain(one) for one in differing])
        return
    rows = [
        (one.study_instance_uid, change.keyword, change.before or "", change.after or "")
        for one in differing
        for change in one.changes
    ]
    columns = ("study", "attribute", "local", "leading")
    if as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([columns, *rows])
        return
    print_table("", columns, rows)
    print(f"{len(differing)} studies differ")


def reconcile(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    study: StudyOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write. Without it only what would be written is shown.")] = False,
) -> int:
    """Write the leading archive's attributes into the stored files and the index.

    Each study goes from its old files to the new ones at once; one that cannot be rewritten stays as it was.
    """
    done: list[dict[str, object]] = []
    failed: dict[str, str] = {}
    with _compared(config, study) as (archive, aet, found):
        reconciler = Reconciler(archive, aet)
        for one in found:
            uid = one.study_instance_uid
            try:
                instances = reconciler.reconcile(one) if yes else len(archive.instances(study_uids=[uid]))
            except (BadInstance, StorageError) as error:
                failed[uid] = error.message
                continue
            done.append({**_plain(one), "instances": instances})
        if yes:
            archive.sync()
    if as_json:
        print_json({"written": yes, "studies": done, "failed": failed})
    else:
        rows = [(one["study"], len(one["attributes"]), one["instances"]) for one in done]  # type: ignore[arg-type]
        print_table("", ("study", "attributes", "instances"), rows)
        said = "rewritten" if yes else "would be rewritten; --yes does it"
        print(f"{len(done)} studies {said}")
        for uid, text in failed.items():
            problem(f"study {uid}: {text}")
    return OPERATION_FAILED if failed else 0


@contextmanager
def _compared(
    path: Path | None, wanted: Sequence[str] | None
) -> Iterator[tuple[LocalArchive, str, Iterator[StudyDifference]]]:
    """The archive, our AE title, and the studies that differ as they are found."""
    config = configuration(path)
    leading = build_leading(config)
    archive = build_archive(config)
    view = leading.view
    if view is None:
        raise ConfigError([f"{config.source}: leading: there is no leading archive to compare with"])
    caller = Caller(config.ae.title)

    def known(uids: Sequence[str]) -> dict[str, Attributes]:
        return view.studies(uids, caller, [])

    try:
        archive.open()
        uids = list(wanted) if wanted else [line.study_instance_uid for line in archive.listing()]
        yield archive, config.ae.title, _shown(uids, compare(uids, lambda some: archive.studies(some, caller), known))
    finally:
        archive.close()
        leading.close()


def _shown(uids: Sequence[str], batches: Iterator[list[StudyDifference]]) -> Iterator[StudyDifference]:
    """The differences, while a bar on standard error shows how far the comparison is."""
    columns = (TextColumn("studies"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=len(uids))
        for batch in batches:
            yield from batch
            progress.advance(task, min(100, len(uids)))


def _plain(one: StudyDifference) -> dict[str, object]:
    changes = [{"attribute": c.keyword, "local": c.before, "leading": c.after} for c in one.changes]
    return {"study": one.study_instance_uid, "attributes": changes}
