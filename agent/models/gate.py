"""The golden-frame gate on the device: the new model beside the one that runs, on the same frames in turn. Blocks."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

from agent.capture.errors import StreamNotFoundError, UnreadableVideoError
from agent.capture.frame import Picture
from agent.capture.images import read_picture
from agent.capture.picture import RgbPicture
from agent.infer.bundle import Bundle
from agent.infer.engine import ModelError
from agent.infer.fitting import Fitted, fit
from agent.infer.host import EngineHost, EngineStats
from agent.models.golden import Answer, Figures, Thresholds, Verdict, accuracy, judge
from agent.models.golden_files import Golden

GREY = (480, 640)  # without golden frames a latency is taken from a grey picture


class StoppedError(Exception):
    """The agent stops meanwhile."""


@dataclass(slots=True)
class Candidate:
    """A model with its open engine, and what it did so far."""

    bundle: Bundle
    host: EngineHost
    fitted: Fitted = field(init=False)
    answers: list[Answer] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises ModelError where the tensors do not fit the manifest."""
        self.fitted = fit(self.bundle, self.host.input, self.host.outputs)

    def look(self, picture: Picture) -> Answer:
        """Raises EngineError, or ModelError."""
        tensor, placement = self.fitted.preprocessor.prepare(picture)
        outputs = self.host.infer(tensor)
        self.latencies_ms.append(self.host.last_invoke_ms)
        found = self.fitted.decoder.decode(outputs, placement, picture.width, picture.height)
        return Answer.of(found, self.bundle.labels)

    def figures(self, golden: Golden | None, thresholds: Thresholds) -> Figures:
        p50, p95 = np.percentile(self.latencies_ms, (50, 95))
        share = None
        if golden is not None:
            share = accuracy(self.answers, golden.truths, classifier=golden.classifier, iou=thresholds.iou)
        return Figures(len(golden.files) if golden else 0, share, float(p50), float(p95))


def measure(
    new: Candidate,
    old: Candidate | None,
    golden: Golden | None,
    thresholds: Thresholds,
    *,
    runs: int,
    stop: threading.Event,
    at_work: EngineStats | None = None,
) -> Verdict:
    """Both on each frame, one after the other, until each has had `runs` inferences.

    `at_work`: of the model that runs, where it cannot be opened a second time. Raises ModelError (a frame cannot be
    read, the model does not fit), EngineError, or StoppedError.
    """
    both = [one for one in (old, new) if one is not None]
    for n, picture in enumerate(_pictures(golden)):
        if stop.is_set():
            raise StoppedError
        first_round = golden is not None and n < len(golden.files)
        if not first_round and n >= runs:
            break
        for one in both:
            answer = one.look(picture)
            if first_round:
                one.answers.append(answer)
    before = None
    if old is not None:
        before = old.figures(golden, thresholds)
    elif at_work is not None and at_work.invokes:
        before = Figures(0, None, at_work.latency_ms_p50, at_work.latency_ms_p95)
    agreement = None
    if old is not None and golden is not None:
        agreement = accuracy(new.answers, old.answers, classifier=golden.classifier, iou=thresholds.iou)
    return judge(new.figures(golden, thresholds), before, thresholds, agreement)


def _pictures(golden: Golden | None) -> Iterator[Picture]:
    """Each golden frame once, then again from the first, without end."""
    if golden is None:
        grey = RgbPicture(np.full((*GREY, 3), 128, np.uint8))
        while True:
            yield grey
    for path in cycle(golden.files):
        yield picture_of(path)


def picture_of(path: Path) -> Picture:
    """Raises ModelError."""
    try:
        return read_picture(path)
    except (StreamNotFoundError, UnreadableVideoError) as error:
        raise ModelError(f"golden frame {path}: {error}") from error
