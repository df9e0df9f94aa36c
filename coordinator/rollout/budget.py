"""How much of a roll-out may go wrong: of those that were told the change, and of those that fetch. Pure."""

from coordinator.rollout.ledger import Ledger
from coordinator.rollout.plan import Plan
from coordinator.rollout.state import Run

SPENT = "the failure budget is spent"


class Budget:
    """One roll-out's. What was forgiven is counted by its `Run`."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger

    def is_spent(self, run: Run) -> bool:
        """Of a sample large enough, too large a share went wrong."""
        return any(of >= self._plan.sample_min and self._is_too_much(bad, of) for bad, of in self._samples(run))

    def why_failed(self, run: Run, *, is_last: bool) -> str:
        """Why a wave has failed, judged where it is no sample too: all of it went wrong, or no more is to come. ""
        where it has not."""
        for bad, of in self._samples(run):
            if self._is_too_much(bad, of) and (is_last or bad == of):
                return "no node of the sample is verified" if bad == of else SPENT
        return ""

    def counted(self, run: Run) -> str:
        """For people."""
        (bad, of), (missed, fetched) = self._samples(run)
        told = f"{bad} of {of} failed or silent"
        if self._is_too_much(missed, fetched):
            told = f"{missed} of {fetched} could not fetch what they need"
        return f"{told}, {self._plan.budget:.1%} are allowed"

    def _is_too_much(self, bad: int, of: int) -> bool:
        return bad > self._plan.budget * of

    def _samples(self, run: Run) -> list[tuple[int, int]]:
        """(failures, of so many) since somebody last said that it goes on: of the change, and of what is fetched."""
        (bad, settled), (missed, fetched) = self._ledger.sample, self._ledger.fetches
        change = max(0, bad - run.forgiven), max(0, settled - run.forgiven_of)
        return [change, (max(0, missed - run.forgiven_fetches), max(0, fetched - run.forgiven_fetches))]
