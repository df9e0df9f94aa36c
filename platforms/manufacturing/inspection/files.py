"""The files of an inspection station: its calibration and the picture of its camera as it should stand."""

from collections.abc import Collection

from platforms.calibration import Calibration, CalibrationError, read_calibration, scaled
from platforms.manufacturing.inspection.codes import reader_mistake
from platforms.manufacturing.inspection.picture import Reference
from platforms.manufacturing.inspection.settings import (
    CalibrationSettings,
    CameraSettings,
    InspectionSettings,
    SerialSource,
)
from platforms.stages import Machine, StageError

CALIBRATION_BYTES_MAX = 1024 * 1024


def load_calibration(settings: CalibrationSettings) -> Calibration | None:
    """Raises StageError."""
    if settings.mm_per_px > 0:
        return scaled(settings.mm_per_px)
    if settings.file is None:
        return None
    try:
        with settings.file.open("rb") as file:
            return read_calibration(file.read(CALIBRATION_BYTES_MAX).decode("utf-8", errors="replace"))
    except OSError as error:
        raise StageError(
            f"calibration.file: {settings.file} cannot be read: {error.strerror}; edge-agent calibrate writes it"
        ) from error
    except CalibrationError as error:
        raise StageError(
            f"calibration.file: {settings.file}: {error}; write it again with edge-agent calibrate"
        ) from error


def load_reference(settings: CameraSettings, machine: Machine) -> Reference | None:
    """Raises StageError."""
    if settings.reference is None:
        return None
    try:
        return Reference(machine.luma(settings.reference), settings.fixed)
    except StageError as error:
        raise StageError(f"camera.reference: {error}; save a picture of the camera there") from error


def station_mistakes(settings: InspectionSettings, machine: Machine, labels: Collection[str]) -> list[str]:
    """What is wrong on this machine, each as `key: what`. `labels`: of all models that look."""
    mistakes: list[str] = []
    for load in (
        lambda: load_calibration(settings.calibration),
        lambda: load_reference(settings.camera, machine),
    ):
        try:
            load()
        except StageError as error:
            mistakes += error.mistakes
    if settings.serial.source is SerialSource.CODE and (missing := reader_mistake()):
        mistakes.append(f"serial.source: {missing}")
    mistakes += [
        f"rules[{i}].classes: no model has a class {name!r}"
        for i, rule in enumerate(settings.rules)
        for name in rule.classes
        if name not in labels
    ]
    return mistakes
