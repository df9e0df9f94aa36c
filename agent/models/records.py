"""Which model a pipeline runs, ran before, and tries now, with a step for each thing that happens. Pure.

    wanted ─► begin (a trial) ─► swapped in ─► passed: it runs, the one before stays at hand
                    └── failed ─► refused, with the reason, until something else is wanted

A trial is journalled before its model is loaded. So an agent that ends with it, killed or by a crash of the model
itself, comes back to a trial that has begun: after `STARTS_MAX` such ends the model is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

STARTS_MAX = 2  # of the agent within one trial, before its model counts as what ended it
REFUSED_MAX = 20


@dataclass(frozen=True, slots=True)
class Ref:
    """A release, by its name and by its bytes."""

    model: str  # NAME@VERSION
    digest: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A model that is to prove itself. `swapped`: the pipeline runs it."""

    ref: Ref
    starts: int = 0  # of the agent since it began
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Of one pipeline. None for `running` and `before`: the configured model."""

    running: Ref | None = None
    before: Ref | None = None
    trial: Trial | None = None
    refused: Mapping[str, str] = field(default_factory=dict)  # the reason by digest

    @property
    def digests(self) -> frozenset[str]:
        """Of the releases that have to stay here."""
        refs = (self.running, self.before, self.trial.ref if self.trial else None)
        return frozenset(ref.digest for ref in refs if ref is not None)


def begun(record: Record, ref: Ref) -> Record:
    """The model is about to be loaded."""
    return replace(record, trial=Trial(ref))


def swapped(record: Record) -> Record:
    """The pipeline runs the model on trial."""
    return record if record.trial is None else replace(record, trial=replace(record.trial, swapped=True))


def passed(record: Record) -> Record:
    """The trial is over, and its model stays."""
    if record.trial is None:
        return record
    before = record.before if record.trial.ref == record.running else record.running
    return replace(record, running=record.trial.ref, before=before, trial=None)


def failed(record: Record, ref: Ref, reason: str) -> Record:
    """The model is refused; what ran before runs."""
    refused = {**{key: text for key, text in record.refused.items() if key != ref.digest}, ref.digest: reason}
    running = None if record.running == ref else record.running
    return replace(record, running=running, trial=None, refused=dict([*refused.items()][-REFUSED_MAX:]))


def configured(record: Record) -> Record:
    """The pipeline runs the configured model again: nothing else is wanted, or nothing else can be run."""
    return replace(record, running=None, before=record.running or record.before, trial=None)


def wanted(record: Record, ref: Ref | None) -> Record:
    """Something is wanted, None for the configured model. What was refused and is not wanted any more is forgiven."""
    refused = {key: text for key, text in record.refused.items() if ref is not None and key == ref.digest}
    trial = record.trial if record.trial is not None and record.trial.ref == ref else None
    return replace(record, trial=trial, refused=refused)


def restarted(record: Record) -> Record:
    """The agent has started anew."""
    trial = record.trial
    if trial is None:
        return record
    if trial.starts + 1 > STARTS_MAX:
        return failed(record, trial.ref, f"the agent ended {trial.starts + 1} times while it was on trial")
    return replace(record, trial=replace(trial, starts=trial.starts + 1))


def unblamed(record: Record) -> Record:
    """The agent ends in order, whatever is on trial."""
    return record if record.trial is None else replace(record, trial=replace(record.trial, starts=0))


def is_on_trial(record: Record, ref: Ref) -> bool:
    """Its trial has begun and is not over."""
    return record.trial is not None and record.trial.ref == ref


def to_load(record: Record, ref: Ref | None) -> Ref | None:
    """What a pipeline starts with when `ref` is wanted: no more than what has been here and running already."""
    if ref is None:
        return None
    if record.trial is not None and record.trial.ref == ref and record.trial.swapped:
        return ref
    return record.running
