"""The table that a run prints, and the line that sums it up."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from faults.world import Outcome


@dataclass
class Report:
    """What came of all scenarios.

    Attributes:
        loads: what was held at once.
        tried: bad inputs.
        lost: acknowledged instances that are gone.
        kills: processes killed.
        skipped: scenarios this machine has not the tools for.
    """

    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    tried: int = 0
    acknowledged: int = 0
    lost: int = 0
    kills: int = 0
    skipped: int = 0

    def add(self, where: str, outcome: Outcome) -> None:
        """Keep an outcome, and show that it is there."""
        self.outcomes.append((where, outcome))
        verdict = "FAILED" if outcome.problems else "ok"
        print(f"{verdict:6} {where:9} {outcome.name}: {outcome.figure} ({outcome.seconds:.1f} s)", flush=True)
        for problem in outcome.problems:
            print(f"       {problem}", flush=True)

    @property
    def broken(self) -> int:
        """Scenarios with a broken invariant."""
        return sum(bool(outcome.problems) for _, outcome in self.outcomes)

    def print(self) -> None:
        """The table and the summary."""
        table = Table("", "scenario", "figure", "healthy client meanwhile", "left afterwards", box=None, padding=(0, 1))
        for where, one in self.outcomes:
            name = f"{one.name}{' - FAILED' if one.problems else ''}"
            table.add_row(where, name, one.figure, one.witness, one.left)
        Console(width=200).print(table)
        print(
            f"load held: {'; '.join(self.loads) or 'none'} - "
            f"faults survived: {len(self.outcomes) - self.broken - self.skipped} of {len(self.outcomes)} scenarios - "
            f"bad inputs tried: {self.tried} - "
            f"acknowledged instances lost: {self.lost} of {self.acknowledged} under {self.kills} kills"
        )
