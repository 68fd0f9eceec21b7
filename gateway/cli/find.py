"""``find``: query a peer (C-FIND) and show the answers as a table or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from gateway.cli.common import OPERATION_FAILED, ConfigOption, JsonOption, print_json, print_table, problem
from gateway.cli.identifiers import DEFAULT_KEYS, cell, document, identifier, parse_key, parse_level
from gateway.cli.remote import (
    BindOption,
    CalledOption,
    CallingOption,
    ConnectOption,
    PeerOption,
    Remote,
    TimeoutOption,
    remote,
)
from gateway.dicom.attributes import Attributes
from gateway.dicom.models import SERVICES, Level, Model
from gateway.dimse.requestor import connect as associate
from gateway.errors import Cancelled, UpstreamError

_SYNTAX = "1.2.840.10008.1.2.1"
_MODELS = {service.model: service.find for service in SERVICES}

LevelOption = Annotated[
    str | None,
    typer.Option("-L", "--level", metavar="LEVEL", help="PATIENT, STUDY, SERIES or IMAGE; STUDY unless told."),
]
MatchOption = Annotated[
    list[str] | None,
    typer.Option(
        "-k", "-m", "--key", metavar="KEY=VALUE", help="Match: keyword or gggg,eeee; without value: return it."
    ),
]
ReturnOption = Annotated[list[str] | None, typer.Option("-r", "--return", metavar="KEY", help="Return this as well.")]
PatientRoot = Annotated[bool, typer.Option("-P", "--patient-root", help="Patient Root instead of Study Root.")]
Limit = Annotated[int | None, typer.Option("--cancel", metavar="N", min=1, help="Cancel after N answers.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("find")(find)


def find(
    connect: ConnectOption = None,
    peer: PeerOption = None,
    called: CalledOption = None,
    calling: CallingOption = None,
    bind: BindOption = None,
    level: LevelOption = None,
    keys: MatchOption = None,
    returns: ReturnOption = None,
    patient_root: PatientRoot = False,
    cancel: Limit = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> int:
    """Query a peer: find -c AET@HOST:PORT -k PatientName=DOE*."""
    target = remote(connect, peer, called, calling, bind, config, timeout)
    parsed = [parse_key(text, "-k") for text in keys or ()]
    # DCMTK's users write the level as a key.
    named = next((value for keyword, value in parsed if keyword == "QueryRetrieveLevel"), None)
    wanted = parse_level(level or named or "STUDY")
    matches = [(keyword, value) for keyword, value in parsed if keyword != "QueryRetrieveLevel"]
    columns = _columns(wanted, matches, [parse_key(text, "-r")[0] for text in returns or ()])
    model = Model.PATIENT_ROOT if patient_root or wanted is Level.PATIENT else Model.STUDY_ROOT
    answers, failure = _ask(target, model, identifier(wanted, matches, columns), cancel)
    if as_json:
        told = {"error": failure.message, "status": getattr(failure, "upstream_status", None)} if failure else {}
        print_json({"answers": [document(one) for one in answers], **told})
    else:
        print_table("", columns, [[cell(one, column) for column in columns] for one in answers])
        print(f"{len(answers)} answers")
    if failure:
        problem(failure.message)
    return OPERATION_FAILED if failure else 0


def _columns(level: Level, matches: Sequence[tuple[str, str]], returns: Sequence[str]) -> list[str]:
    named = [keyword for keyword, _ in matches]
    return list(dict.fromkeys([*named, *returns] if returns else [*DEFAULT_KEYS[level], *named]))


def _ask(
    target: Remote, model: Model, keys: Attributes, limit: int | None
) -> tuple[list[Attributes], UpstreamError | None]:
    """The answers, and what ended them if it was not success; those that came before a failure are shown."""
    answers: list[Attributes] = []
    with associate(target.peer, target.calling, [(_MODELS[model], _SYNTAX)]) as association:
        try:
            for answer in association.find(_MODELS[model], keys, lambda: limit is not None and len(answers) >= limit):
                answers.append(answer)  # noqa: PERF402 - those that came before a failure are kept
        except Cancelled:
            return answers, None
        except UpstreamError as error:
            return answers, error
    return answers, None
