"""``rules``: check, explain, try and test coercion rules before they meet a patient."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.common import (
    OPERATION_FAILED,
    JsonOption,
    configuration,
    console,
    escape,
    print_json,
    print_table,
    warn,
)
from gateway.coercion.cases import load_cases, run_cases
from gateway.coercion.dcm4chee import import_ldif
from gateway.coercion.draft import Context
from gateway.coercion.engine import Plan, plan
from gateway.coercion.explain import Difference, differences, explain
from gateway.coercion.folders import files, instance_of
from gateway.coercion.given import load_attributes
from gateway.coercion.lint import lint
from gateway.coercion.parser import load_rules
from gateway.coercion.printer import rule_to_plain
from gateway.coercion.rules import CoercionFailed, RuleSet, Where
from gateway.coercion.schema import schema
from gateway.coercion.splice import read_head
from gateway.config import Config, load
from gateway.daemon.archiving import build_archive
from gateway.daemon.leading import build_leading
from gateway.dicom.attributes import Attributes
from gateway.dicom.caller import Caller
from gateway.dicom.instance import StoredInstance
from gateway.errors import BadInstance

app = typer.Typer(
    name="rules", help="Check, explain, try and test coercion rules.", no_args_is_help=True, add_completion=False
)

RulesOption = Annotated[
    Path | None, typer.Option("--rules", metavar="FILE", help="The rule file; else that of --config.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="GATEWAY_CONFIG", metavar="FILE", help="The configuration, YAML.")
]
WhereOption = Annotated[Where, typer.Option("--where", help="What the rules are applied to.")]
SendingOption = Annotated[str, typer.Option("--sending", metavar="AET", help="AE title that sends the data set.")]
ReceivingOption = Annotated[str, typer.Option("--receiving", metavar="AET", help="AE title that receives it.")]
HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Network address of the peer.")]
LeadingOption = Annotated[
    Path | None,
    typer.Option(
        "--leading", metavar="FILE", help="Attributes as the leading archive would give: YAML or a DICOM file."
    ),
]


def register(parent: typer.Typer) -> None:
    """Add the group."""
    parent.add_typer(app)


@app.command("check")
def check(file: Annotated[Path, typer.Argument(metavar="FILE")], as_json: JsonOption = False) -> None:
    """Check a rule file: every problem at once, and what it can hardly mean."""
    rules = load_rules(file)
    warnings = lint(rules)
    if as_json:
        names = [rule.name for rule in rules.rules]
        print_json({"file": str(file), "version": rules.version, "rules": names, "warnings": warnings})
        return
    for text in warnings:
        warn(f"{file}: {text}")
    console().print(f"{escape(str(file))}: good, {len(rules.rules)} rules, version {rules.version}")


@app.command("schema")
def show_schema() -> None:
    """Print the JSON Schema of rule files, for editors."""
    print_json(schema())


@app.command("explain")
def explain_rules(
    sending: SendingOption = "",
    receiving: ReceivingOption = "",
    host: HostOption = "",
    where: WhereOption = Where.SENT,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A DICOM file to ask its attributes.")
    ] = None,
    rules: RulesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which rules would apply between two AE titles, and why the others not."""
    attributes = None if file is None else read_head(instance_of(file))
    found = explain(_rules(rules, config), where, Context(sending, receiving, host), attributes)
    if as_json:
        print_json([{"rule": one.rule.name, "verdict": one.verdict, "why": one.why} for one in found])
        return
    rows = [(one.rule.name, one.verdict, one.why) for one in found]
    print_table(f"{where.value}: {sending or '?'} to {receiving or '?'}", ("rule", "verdict", "why"), rows)


@app.command("dry-run")
def dry_run(  # typer turns each into an option
    path: Annotated[Path | None, typer.Argument(metavar="FILE|FOLDER", exists=True)] = None,
    study: Annotated[
        str, typer.Option("--study", metavar="UID", help="A study of the archive, as the leading archive knows it.")
    ] = "",
    sending: SendingOption = "",
    receiving: ReceivingOption = "",
    host: HostOption = "",
    where: WhereOption = Where.SENT,
    leading: LeadingOption = None,
    rules: RulesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the rules would change, attribute by attribute. Nothing is written."""
    if (path is None) is (not study):
        raise typer.BadParameter("name a FILE or FOLDER, or a --study of the archive")
    known = load_attributes(leading) if leading else None
    found: Iterable[Path | StoredInstance]
    if path is not None:
        found = files(path)
    else:
        found, told = _of_study(configuration(config), study)
        known = known or told
    made = plan(_rules(rules, config), where, Context(sending, receiving, host, leading=known))
    results = {str(one) if isinstance(one, Path) else one.path: _tried(made, one) for one in found}
    if as_json:
        print_json({name: _plain(result) for name, result in results.items()})
    else:
        for name, result in results.items():
            _show(name, result)
    if any(isinstance(result, str) for result in results.values()):
        raise typer.Exit(OPERATION_FAILED)


def _of_study(config: Config, uid: str) -> tuple[list[StoredInstance], Attributes | None]:
    """The instances of a study of the local archive, and what the leading archive says of it."""
    archive, leading = build_archive(config), build_leading(config)
    try:
        archive.open()
        known = leading.view.studies([uid], Caller(config.ae.title), []) if leading.view else {}
        return archive.instances(study_uids=[uid]), known.get(uid)
    finally:
        archive.close()
        leading.close()


def _tried(made: Plan, one: Path | StoredInstance) -> list[Difference] | str:
    try:
        return differences(made, read_head(instance_of(one) if isinstance(one, Path) else one))
    except (CoercionFailed, BadInstance) as error:
        return error.message


@app.command("test")
def run_tests(
    files: Annotated[list[Path], typer.Argument(metavar="TESTS.yaml...")], as_json: JsonOption = False
) -> None:
    """Try test cases for rules: what is given, and what must come out."""
    results = [(file, result) for file in files for result in run_cases(*load_cases(file))]
    failed = [one for one in results if one[1].problems]
    if as_json:
        print_json([{"file": str(file), "name": one.case.name, "problems": one.problems} for file, one in results])
    else:
        for file, result in failed:
            console().print(f"[red]FAILED[/red] {escape(str(file))}: {escape(result.case.name)}")
            for text in result.problems:
                console().print(f"  {escape(text)}")
        console().print(f"{len(results) - len(failed)} of {len(results)} good")
    if failed:
        raise typer.Exit(OPERATION_FAILED)


@app.command("import-ldif")
def import_rules(file: Annotated[Path, typer.Argument(metavar="FILE")], as_json: JsonOption = False) -> None:
    """Turn dcm4chee's coercion rules, of both generations, into ours; what could not be carried over is listed."""
    found = import_ldif(file.read_text(encoding="utf-8"))
    if as_json:
        print_json({"rules": found.rules, "leading": found.settings, "left": found.left})
        return
    for text in found.left:
        warn(f"not carried over: {text}")
    print(found.text(), end="")


@app.command("show")
def show(rules: RulesOption = None, config: ConfigOption = None) -> None:
    """Print every rule in the order in which they are tried, the built-in one included."""
    print_json([rule_to_plain(rule) for rule in _rules(rules, config).rules])


def _rules(file: Path | None, config: Path | None) -> RuleSet:
    if file is None and config is not None:
        file = load(config).coercion.rules
    return RuleSet.default() if file is None else load_rules(file)


def _plain(result: list[Difference] | str) -> object:
    if isinstance(result, str):
        return {"error": result}
    return [{"attribute": d.keyword, "before": d.before, "after": d.after, "rule": d.rule} for d in result]


def _show(name: str, result: list[Difference] | str) -> None:
    out = console()
    out.print(f"[bold]{escape(name)}[/bold]")
    if isinstance(result, str):
        out.print(f"  [red]refused[/red] {escape(result)}")
        return
    if not result:
        out.print("  no change")
    for one in result:
        out.print(f"  {one.keyword} [dim]({escape(one.rule)})[/dim]")
        if one.before is not None:
            out.print(f"    [red]- {escape(one.before)}[/red]")
        if one.after is not None:
            out.print(f"    [green]+ {escape(one.after)}[/green]")
