"""Rules and rule sets, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from gateway.coercion.actions import Default, Set
from gateway.coercion.conditions import ALWAYS, AnyCondition
from gateway.coercion.every_action import AnyAction
from gateway.coercion.sources import FromLeading, Policy
from gateway.dicom.status import Status
from gateway.errors import GatewayError


class Where(Enum):
    """What a rule is applied to."""

    RECEIVED = "received"
    """Instances that a peer sends to us; dcm4chee's C_STORE_RQ with the peer as SCU."""
    SENT = "sent"
    """Instances that we send; C_STORE_RQ with the peer as SCP."""
    KEYS = "keys"
    """The keys of queries we are asked; C_FIND_RQ with the peer as SCU."""
    ANSWERS = "answers"
    """Our answers to queries; C_FIND_RSP with the peer as SCU."""


class OnFailure(Enum):
    """What becomes of a data set that a rule could not be applied to."""

    REFUSE = "refuse"
    """The operation on this data set fails."""
    PASS = "pass"  # noqa: S105
    """It goes on without this rule's changes."""
    QUARANTINE = "quarantine"
    """A received instance is put aside; elsewhere the same as refuse."""


@dataclass(frozen=True)
class Rule:
    """A selector and what is to be done.

    Attributes:
        priority: rules of higher priority go first; equal ones in the order of the file.
        stop: when this rule applies, no later one does.
        line: where the rule stands in its file; not part of what it is.
    """

    name: str
    where: frozenset[Where]
    then: tuple[AnyAction, ...]
    when: AnyCondition = ALWAYS
    priority: int = 0
    stop: bool = False
    on_failure: OnFailure = OnFailure.REFUSE
    enabled: bool = True
    line: int = field(default=0, compare=False)


def asks_leading(rules: Iterable[Rule]) -> bool:
    """Whether some rule takes anything from the leading archive."""
    return any(_asks(action) for rule in rules for action in rule.then)


def _asks(action: AnyAction) -> bool:
    return isinstance(action, FromLeading) or (isinstance(action, Set | Default) and action.format.asks_leading)


BUILT_IN = Rule(
    name="leading-attributes",
    where=frozenset({Where.SENT, Where.ANSWERS}),
    then=(FromLeading(Policy.MERGE, ("patient", "study")),),
    priority=1000,
    on_failure=OnFailure.PASS,
)
"""What the gateway is for; a rule of the same name in the file takes its place, also one that is not enabled."""


@dataclass(frozen=True)
class RuleSet:
    """Every rule, in the order in which they are tried.

    Attributes:
        recorded: where Original Attributes Sequence says what was changed; always in received instances.
        version: changes with the content, so that a log line can say which rules an operation ran under.
        files: what was read, tables included; not part of what the rules are.
    """

    rules: tuple[Rule, ...] = (BUILT_IN,)
    version: str = "built-in"
    recorded: frozenset[Where] = frozenset({Where.RECEIVED})
    files: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def default(cls) -> RuleSet:
        """The built-in rule alone."""
        return cls()

    @classmethod
    def of(
        cls,
        rules: tuple[Rule, ...],
        version: str,
        recorded: frozenset[Where] = frozenset(),
        files: tuple[str, ...] = (),
    ) -> RuleSet:
        """The rules of a file and, unless one of them has its name, the built-in one."""
        replaced = any(rule.name == BUILT_IN.name for rule in rules)
        everything = rules if replaced else (BUILT_IN, *rules)
        return cls(
            tuple(sorted(everything, key=lambda rule: -rule.priority)), version, recorded | {Where.RECEIVED}, files
        )

    def at(self, where: Where) -> tuple[Rule, ...]:
        """The enabled rules for one kind of data set, in order."""
        return tuple(rule for rule in self.rules if rule.enabled and where in rule.where)


class CoercionFailed(GatewayError):
    """A rule could not be applied, and it says that the data set may not go on without it.

    Attributes:
        failed: that rule, behind those that failed before it and were passed over.
        rule: its name.
        quarantine: a received instance is to be put aside rather than refused.
    """

    status = Status.UNABLE_TO_PROCESS

    def __init__(self, failed: tuple[Rule, ...], problem: str) -> None:
        rule = failed[-1]
        super().__init__(f"coercion rule {rule.name}: {problem}")
        self.failed = failed
        self.rule = rule.name
        self.quarantine = rule.on_failure is OnFailure.QUARANTINE
