"""Models as text for people. Pure; now is an argument."""

from collections import Counter
from collections.abc import Mapping, Sequence

from coordinator.ctl.tables import age, local_time, pairs, printable, table
from coordinator.models.choosing import Choice
from coordinator.models.release import Release
from coordinator.store.model_figures import FiguresView
from coordinator.store.models import MeasuredView, ModelView, StepView


def listed(found: Sequence[ModelView], now_ms: int) -> str:
    return table(
        ("NAME", "VERSION", "CHANNELS", "TARGETS", "BYTES", "STATE", "ADDED", "DIGEST"),
        [
            (
                one.name,
                one.version,
                " ".join(one.channels) or "-",
                " ".join(one.targets),
                str(one.bytes),
                one.state,
                f"{age(one.added_utc_ms, now_ms)} ago",
                one.digest[:12],
            )
            for one in found
        ],
    )


def whole(
    view: ModelView,
    release: Release,
    signed: str,
    measured: Sequence[MeasuredView],
    figures: Sequence[FiguresView],
    children: Sequence[str],
    history: Sequence[StepView],
) -> str:
    """One version, and the history of its model."""
    head = pairs(
        [
            ("model", view.reference),
            ("description", release.description),
            ("licence", release.licence),
            ("state", view.state),
            ("channels", " ".join(view.channels) or "-"),
            ("digest", view.digest),
            ("signed", signed),
            ("labels", str(release.labels)),
            ("made from", release.lineage.parent or "-"),
            ("note", release.lineage.note or "-"),
            ("was made into", " ".join(children) or "-"),
            ("accuracy", _figures(release.declared.accuracy) + " as declared" if release.declared.accuracy else "-"),
            ("added", f"{local_time(view.added_utc_ms)} by {view.source}"),
        ]
    )
    by_target = {one.target: one for one in measured}
    variants = table(
        ("TARGET", "FILE", "BYTES", "NEEDS", "DECLARED", "MEASURED"),
        [
            (
                one.target.value,
                one.file,
                str(one.bytes),
                _needs(one.requires.arch, one.requires.memory_mb, one.requires.cores),
                _declared(one.declared.accuracy, one.declared.latency_ms),
                _measured(by_target.get(one.target.value)),
            )
            for one in release.variants
        ],
    )
    files = table(
        ("FILE", "ROLE", "BYTES", "SHA256"),
        [(file.path, file.role.value, str(file.bytes), file.sha256) for file in release.files],
    )
    steps = table(
        ("WHEN", "VERSION", "WHAT", "CHANNEL", "BEFORE", "BY"),
        [
            (local_time(one.time_utc_ms), one.version, one.action, one.channel, one.replaced, one.source)
            for one in history
        ],
    )
    parts = [head, variants, by_hardware(figures), files, steps]
    return "\n\n".join(part for part in parts if part)


def by_hardware(figures: Sequence[FiguresView]) -> str:
    """What nodes measured; nothing where they have not."""
    titles = ("TARGET", "HARDWARE", "ON", "TIMES", "FRAMES", "ACCURACY", "LEAST", "P50 MS", "P95 MS", "P95 MOST")
    rows = [
        (
            one.target,
            one.hardware,
            one.basis,
            str(one.count),
            str(one.frames),
            "-" if one.accuracy is None else f"{one.accuracy:.3f}",
            "-" if one.accuracy_min is None else f"{one.accuracy_min:.3f}",
            f"{one.latency_ms_p50:.1f}",
            f"{one.latency_ms_p95:.1f}",
            f"{one.latency_ms_p95_max:.1f}",
        )
        for one in figures
    ]
    return table(titles, rows) if rows else ""


def why(release: Release, node: str, choice: Choice) -> str:
    gets = choice.variant.target.value if choice.variant else "nothing"
    lines = [f"{node} gets of {release.reference}: {gets}"]
    for one in choice.verdicts:
        runs = "chosen" if one.variant is choice.variant else "would run, another goes before"
        said = "; ".join(one.why_not) or runs
        lines.append(f"  {one.variant.target.value}: {said}")
    return "\n".join(printable(line) for line in lines)


def counted(release: Release, runs: Counter[str], reasons: Counter[str]) -> str:
    nodes = runs.total() + reasons.total()
    lines = [f"{release.reference} runs on {runs.total()} of {nodes} nodes"]
    lines += [f"  {count} get {target}" for target, count in runs.most_common()]
    lines += [f"  {count} cannot: {reason}" for reason, count in reasons.most_common(20)]
    return "\n".join(printable(line) for line in lines)


def _needs(arch: Sequence[str], memory_mb: float, cores: float) -> str:
    parts = [" or ".join(arch)] if arch else []
    parts += [f"{memory_mb:g} MB"] if memory_mb else []
    parts += [f"{cores:g} cores"] if cores else []
    return ", ".join(parts) or "-"


def _declared(accuracy: Mapping[str, float], latency_ms: Mapping[str, float]) -> str:
    parts = [_figures(accuracy)] if accuracy else []
    parts += [f"{value:g} ms on {name}" for name, value in latency_ms.items()]
    return ", ".join(parts) or "-"


def _measured(found: MeasuredView | None) -> str:
    if found is None or not found.measured_utc_ms:
        return "not yet"
    parts = [f"{found.nodes} {'node' if found.nodes == 1 else 'nodes'}"]
    for name, value in (
        ("p50 ms", found.latency_ms_p50), ("p95 ms", found.latency_ms_p95), ("accuracy", found.accuracy)
    ):  # fmt: skip
        parts += [f"{name} {value:.4g}"] if value is not None else []
    return ", ".join(parts)


def _figures(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in found.items())
