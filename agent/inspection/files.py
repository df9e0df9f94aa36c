"""The files of an inspection station: its calibration and the picture of its camera as it should stand."""

from collections.abc import Sequence
from pathlib import Path

from agent.capture.images import read_picture
from agent.capture.picture import luma
from agent.inspection.codes import check_reader
from platforms.manufacturing.inspection.calibration import Calibration, CalibrationError, read_calibration, scaled
from platforms.manufacturing.inspection.picture import Reference
from platforms.manufacturing.inspection.settings import (
    SIMULATOR,
    CalibrationSettings,
    CameraSettings,
    InspectionSettings,
    SerialSource,
)
from runtime.errors import ConfigError, EdgewrightError

CALIBRATION_BYTES_MAX = 1024 * 1024


def load_calibration(settings: CalibrationSettings) -> Calibration | None:
    """Raises ConfigError."""
    if settings.mm_per_px > 0:
        return scaled(settings.mm_per_px)
    if settings.file is None:
        return None
    try:
        with settings.file.open("rb") as file:
            return read_calibration(file.read(CALIBRATION_BYTES_MAX).decode("utf-8", errors="replace"))
    except OSError as error:
        raise ConfigError(
            f"calibration.file: {settings.file} cannot be read: {error.strerror}",
            hint="edge-agent calibrate writes it",
        ) from error
    except CalibrationError as error:
        raise ConfigError(
            f"calibration.file: {settings.file}: {error}", hint="write it again with edge-agent calibrate"
        ) from error


def load_reference(settings: CameraSettings) -> Reference | None:
    """Raises ConfigError."""
    if settings.reference is None:
        return None
    try:
        return Reference(luma(read_picture(settings.reference)), settings.fixed)
    except EdgewrightError as error:
        raise ConfigError(f"camera.reference: {error}", hint="save a picture of the camera there") from error


def station_mistakes(settings: InspectionSettings, labels: Sequence[str]) -> list[str]:
    """What is wrong on this machine, each as `inspection.key: what`. `labels`: of all models that look."""
    mistakes = []
    for load in (
        lambda: load_calibration(settings.calibration),
        lambda: load_reference(settings.camera),
        lambda: check_reader() if settings.serial.source is SerialSource.CODE else None,
    ):
        try:
            load()
        except EdgewrightError as error:
            mistakes.append(f"inspection.{error}")
    mistakes += [
        f"inspection.rules[{i}].classes: no model has a class {name!r}"
        for i, rule in enumerate(settings.rules)
        for name in rule.classes
        if name not in labels
    ]
    chip = settings.signal.chip
    if settings.signal.line != "" and not chip.startswith(SIMULATOR) and not Path(chip).exists():
        mistakes.append(f"inspection.signal.chip: {chip} does not exist")
    return mistakes
