"""``archive``: look after the file-set, while the gateway runs or while it does not.

The verbs and a running gateway share the index and take turns by its lock files, so no HTTP is needed between them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.archive.local import LocalArchive
from gateway.archive.verify import counts
from gateway.cli.common import OPERATION_FAILED, ConfigOption, JsonOption, configuration, print_json, print_table, warn
from gateway.daemon.archiving import build_archive
from gateway.daemon.auditing import tell_of_deletion
from gateway.dicom.models import Level
from gateway.errors import StorageError

group = typer.Typer(help="Look after the local archive, running or not.", no_args_is_help=True)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="archive")


@contextmanager
def _opened(config: Path | None) -> Iterator[LocalArchive]:
    with _built(config) as archive:
        archive.open()
        yield archive


@contextmanager
def _built(config: Path | None) -> Iterator[LocalArchive]:
    archive = build_archive(configuration(config))
    try:
        yield archive
    finally:
        archive.close()


@group.command("import")
def import_(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    again: Annotated[bool, typer.Option("--again", help="Also when the DICOMDIR did not change.")] = False,
) -> None:
    """Bring the DICOMDIR into the index, and drop from it what the DICOMDIR no longer has."""
    columns = (SpinnerColumn(), TextColumn("{task.completed} instances"), TimeElapsedColumn())
    with _built(config) as archive, Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=None)

        def show(count: int) -> None:
            progress.update(task, completed=count)

        done = archive.open(show)
        if done is None:
            done = archive.sync(show, reread=again)
    if as_json:
        print_json({"imported": done is not None, **(asdict(done) if done else {})})
    elif done is None:
        print("nothing to import: the DICOMDIR is the one published or imported last")
    else:
        print(f"{done.instances} instances, {done.added} new, {done.dropped} dropped")
        print_table("", ("byte", "in quarantine"), [(one.offset, one.reason) for one in done.quarantined])


@group.command("list")
def list_(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    patient: Annotated[str | None, typer.Option(help="Only the patient with this Patient ID.")] = None,
) -> None:
    """Show patients, studies and sizes."""
    with _opened(config) as archive:
        lines = [one for one in archive.listing() if patient in {None, one.patient_id}]
    if as_json:
        print_json([asdict(one) for one in lines])
        return
    rows = [
        (one.patient_id, one.patient_name, one.study_date, one.modalities, one.study_instance_uid, one.series,
         one.instances, _human(one.size), datetime.fromtimestamp(one.received, UTC).strftime("%Y-%m-%d %H:%M"))
        for one in lines
    ]  # fmt: skip
    columns = ("patient", "name", "date", "modalities", "study", "series", "instances", "size", "received (UTC)")
    print_table("", columns, rows)
    patients = len({one.patient_id for one in lines})
    total = _human(sum(one.size for one in lines))
    print(f"{patients} patients, {len(lines)} studies, {sum(one.instances for one in lines)} instances, {total}")


@group.command()
def delete(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    patient: Annotated[list[str] | None, typer.Option(metavar="ID", help="Patient ID; may be repeated.")] = None,
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="May be repeated, as those below.")] = None,
    series: Annotated[list[str] | None, typer.Option(metavar="UID")] = None,
    instance: Annotated[list[str] | None, typer.Option(metavar="UID")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete from index, DICOMDIR and disk; an answer given after this verb has ended knows nothing of it.

    Deleting what is not there (any more) is no failure.
    """
    named = {Level.PATIENT: patient, Level.STUDY: study, Level.SERIES: series, Level.IMAGE: instance}
    wanted = [(level, uid) for level, uids in named.items() for uid in uids or ()]
    if not wanted:
        raise typer.BadParameter("name what to delete: --patient, --study, --series or --instance")
    if not yes:
        typer.confirm(f"Delete {', '.join(f'{level.name.lower()} {uid}' for level, uid in wanted)}?", abort=True)
    with _opened(config) as archive:
        done = [archive.delete(level, uid) for level, uid in wanted]
        studies = sorted({uid for one in done for uid in one.studies})
        _tell(config, archive, studies)
        archive.sync()
    instances, size = sum(one.instances for one in done), sum(one.size for one in done)
    if as_json:
        print_json({"instances": instances, "bytes": size, "studies": studies})
    else:
        print(f"deleted {instances} instances of {len(studies)} studies, {_human(size)}")


@group.command()
def purge(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take patients, studies and series without instances out of the DICOMDIR."""
    with _opened(config) as archive:
        purged = archive.purge()
    if as_json:
        print_json({"records": purged})
    else:
        print(f"purged {purged} records without instances")


@group.command()
def compact(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Write the DICOMDIR anew without inactive records."""
    with _opened(config) as archive:
        before = archive.dicomdir.stat().st_size if archive.dicomdir.exists() else 0
        archive.compact()
        after = archive.dicomdir.stat().st_size
    if as_json:
        print_json({"before": before, "after": after})
    else:
        print(f"compacted the DICOMDIR from {_human(before)} to {_human(after)}")


@group.command()
def retain(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go and why; delete nothing.")] = False,
) -> None:
    """Delete the studies that archive.retain in the configuration lets go."""
    with _opened(config) as archive:
        gone = archive.retain(dry_run=dry_run)
        if not dry_run:
            _tell(config, archive, [one.study_instance_uid for one in gone])
    if as_json:
        print_json({"dry_run": dry_run, "studies": [asdict(one) for one in gone]})
        return
    if gone:
        rows = [(one.study_instance_uid, one.instances, _human(one.size), one.reason) for one in gone]
        print_table("", ("study", "instances", "size", "why"), rows)
    verb = "would go" if dry_run else "deleted"
    print(f"{len(gone)} studies {verb}, {_human(sum(one.size for one in gone))}")


@group.command()
def verify(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Compare presence and sizes only; open no file.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without loss.")] = False,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="With --repair, drop entries whose files are missing.")
    ] = False,
) -> int:
    """Compare index, DICOMDIR and disk; exit status 1 when something is wrong and was not mended."""
    with _opened(config) as archive:
        problems = archive.verify(quick=quick, repair=repair, forget_missing=forget_missing)
        instances = sum(one.instances for one in archive.listing())
    left, mended = counts(problems), sum(one.mended for one in problems)
    if as_json:
        found = [{**asdict(one), "kind": one.kind.value} for one in problems]
        print_json({"instances": instances, "problems": found, "left": left, "mended": mended})
    else:
        if problems:
            rows = [(one.kind.value, one.place, one.uid, one.detail, "yes" if one.mended else "no") for one in problems]
            print_table("", ("what", "where", "instance", "detail", "mended"), rows)
        said = ", ".join(f"{count} x {kind}" for kind, count in left.items()) or "index, DICOMDIR and disk agree"
        print(f"{instances} instances: {said}{f'; {mended} mended' if mended else ''}")
    return OPERATION_FAILED if left else 0


def _tell(config: Path | None, archive: LocalArchive, studies: Sequence[str]) -> None:
    try:
        tell_of_deletion(configuration(config), archive, studies)
    except (OSError, StorageError) as error:
        warn(f"deleted, but the audit trail cannot be written: {getattr(error, 'strerror', None) or error}")


def _human(size: float) -> str:
    """Bytes for people."""
    power = 0
    while size >= 1024 and power < len(_UNITS) - 1:
        size, power = size / 1024, power + 1
    return f"{size:.1f} {_UNITS[power]}" if power else f"{size:.0f} B"
