"""Kill -9 of running processes, at named points and at random, one after the other while the load goes on."""

import random
import signal
import threading
import time

from benchmarks.faultlib.points import AGENT_POINTS, COORDINATOR_POINTS
from benchmarks.faultlib.site import AGENT, BROKER, COORDINATOR, Site
from benchmarks.faultlib.verdict import Verdict
from tests.proxy import DOWN, PUBACK

RATE = 150.0
LIFE_S = 3.0  # a point not reached within this time is not waited for
NAMED_SHARE = 0.7  # of the lives of an agent or coordinator have a point


class Killer:
    """Keeps the three processes running and kills them; a process with a point kills itself."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.kills = 0
        self.reached: dict[str, int] = {}
        self._chance = random.Random(seed)
        self._points: dict[str, str] = {}
        self._started_s: dict[str, float] = {}
        self._kept_before = 0  # rows when the agent was started

    def run(self, kills: int) -> None:
        """Until so many processes have died by -9."""
        self.site.start_all(RATE)
        next_s = time.monotonic() + 2.0
        while self.kills < kills:
            for name in (AGENT, COORDINATOR):
                self._look_after(name)
            if time.monotonic() >= next_s:
                self._kill_one()
                next_s = time.monotonic() + self._chance.uniform(0.3, 1.2)
            time.sleep(0.02)

    def _look_after(self, name: str) -> None:
        """One that has died at its point is started again; one that has missed it is killed all the same."""
        point = self._points.get(name, "")
        if self.site.is_dead(name):
            if point:
                self.reached[f"{name} {point.split(':')[0]}"] = (
                    self.reached.get(f"{name} {point.split(':')[0]}", 0) + 1
                )
            status = self.site.stack.ended(name)
            if status in (-signal.SIGTERM, 143) and point.startswith("stop"):  # told to stop before it could listen
                self.site.stack.forget(name)
                self._start(name)
                return
            if status != -signal.SIGKILL:
                raise RuntimeError(f"{name} ended with {status} by itself\n{self.site.stack.log_tail(name)}")
            self._died(name)
        elif point and time.monotonic() - self._started_s[name] > LIFE_S and self._has_worked(name):
            self.site.kill(name)
            self._died(name)

    def _died(self, name: str) -> None:
        self.kills += 1
        self.site.stack.forget(name)
        self._start(name)

    def _kill_one(self) -> None:
        name = self._chance.choices((AGENT, COORDINATOR, BROKER), (5, 3, 3))[0]
        if name != BROKER:
            if self._points.get(name) and not self._points[name].startswith("stop"):
                return  # it will die at its point
            if self._points.get(name):
                self.site.stack.signal(name)  # in order, and it kills itself on the way
                return
            if self._has_worked(name):
                self.site.kill(name)
                self._died(name)
            return
        if self._chance.random() < 0.5:
            self._await_puback()
        self.site.kill(BROKER)
        self.kills += 1
        self.site.start_broker()

    def _has_worked(self, name: str) -> bool:
        """However slow the machine is, each life of an agent keeps some rows: else nothing is put to the test."""
        return name != AGENT or self.site.kept() > self._kept_before

    def _start(self, name: str) -> None:
        points = AGENT_POINTS if name == AGENT else COORDINATOR_POINTS
        point = ""
        if self._chance.random() < NAMED_SHARE:
            point = f"{self._chance.choice(points)}:{self._chance.randint(1, 12)}"
        self._points[name] = point
        self._started_s[name] = time.monotonic()
        if name == AGENT:
            self._kept_before = self.site.kept()
            self.site.start_agent(RATE, point=point)
        else:
            self.site.start_coordinator(point)

    def _await_puback(self) -> None:
        """The broker has just said that it has a message, which it has not written down."""
        seen = threading.Event()

        def watch(direction: str, kind: int) -> None:
            if direction == DOWN and kind == PUBACK:
                seen.set()

        self.site.proxy.on_packet = watch
        if seen.wait(1.0):
            self.reached["broker puback"] = self.reached.get("broker puback", 0) + 1
        self.site.proxy.on_packet = None


def kills(site: Site, count: int, seed: int = 1) -> Verdict:
    """`count` kills, then the account."""
    killer = Killer(site, seed)
    killer.run(count)
    for name in (AGENT, COORDINATOR):  # those that would kill themselves on the way out
        killer.kills += not site.is_dead(name)
        site.kill(name)
    verdict = site.finish("process kills")
    verdict.kills = killer.kills
    verdict.notes.append("points reached: " + ", ".join(f"{k} {n}" for k, n in sorted(killer.reached.items())))
    return verdict
