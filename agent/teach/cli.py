"""`edge-agent teach` and `edge-agent model features`."""

import argparse
from pathlib import Path

from agent.infer.preprocess import roi_mistake
from runtime.errors import ConfigError


def add_teach(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--camera", default="", metavar="ID", help="the camera that took the pictures: a part of the name"
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--good", type=Path, metavar="DIR", help="pictures of good parts, 20 to 200")
    what.add_argument("--add", type=Path, metavar="DIR", help="further good pictures for a bundle that was taught")
    command.add_argument("-o", "--out", type=Path, required=True, metavar="BUNDLE", help="the folder of the bundle")
    command.add_argument("--backbone", type=Path, metavar="MODEL", help="a .tflite file or a bundle; else our own")
    command.add_argument("--layer", action="append", default=[], metavar="NAME", help="of the backbone; else chosen")
    command.add_argument("--name", default="", help="of the bundle; else CAMERA-anomaly")
    command.add_argument("--roi", metavar="X0,Y0,X1,Y1", help="what the model sees, as shares of the picture")
    text = "share of good pictures that may be called anomalous (default 0.01)"
    command.add_argument("--false-alarms", type=float, metavar="RATE", help=text)
    command.add_argument("--keep-outliers", action="store_true", help="pictures unlike the others teach all the same")
    command.set_defaults(run=_teach)


def add_features(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, help="the .tflite file")
    command.add_argument("--list", action="store_true", help="the layers at which it can be cut")
    text = "name, part of a name, or index; several give several outputs"
    command.add_argument("--layer", action="append", default=[], metavar="NAME|INDEX", help=text)
    command.add_argument("-o", "--out", type=Path, metavar="FILE", help="the network up to these layers")
    command.set_defaults(run=_features)


def _teach(arguments: argparse.Namespace) -> int:
    from agent.teach.teaching import TeachSettings, load_record, teach, teach_more

    rate = arguments.false_alarms
    if rate is not None and not 0 < rate < 0.5:
        raise ConfigError(f"--false-alarms {rate:g}: a rate above 0 and below 0.5 is wanted")
    if arguments.add is not None:
        if arguments.backbone or arguments.layer or arguments.roi or arguments.name:
            raise ConfigError("--backbone, --layer, --roi and --name are those of the bundle when pictures are added")
        before = load_record(arguments.out)
        settings = TeachSettings(
            false_alarms=before.false_alarms if rate is None else rate,
            features_max=before.features_max,
            keep_outliers=arguments.keep_outliers,
        )
        lesson = teach_more(arguments.add, arguments.out, settings)
    else:
        settings = TeachSettings(
            layers=tuple(arguments.layer),
            false_alarms=0.01 if rate is None else rate,
            keep_outliers=arguments.keep_outliers,
        )
        lesson = teach(
            arguments.good, arguments.out, arguments.backbone,
            camera=arguments.camera, name=arguments.name, roi=_roi(arguments.roi), settings=settings,
        )  # fmt: skip
    record = lesson.record
    rate = record.false_alarms
    for line in (
        f"{arguments.out}: model {record.name}, taught with {record.pictures} pictures in {record.teach_s:.1f} s",
        f"  backbone {record.backbone}, layers {', '.join(record.layers)}, {record.rows} x {record.columns} places",
        f"  threshold {record.threshold:.3f}, usual good score {_usual(record.log_mean):.3f}; "
        f"of good pictures like these about {rate:.1%} will be called anomalous",
        *(f"  note: {note}" for note in lesson.notes),
    ):
        print(line)  # noqa: T201
    return 0


def _usual(log_mean: float) -> float:
    from math import exp

    return exp(log_mean)


def _roi(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        roi = tuple(float(part) for part in text.split(","))
    except ValueError:
        roi = ()
    if len(roi) != 4:
        raise ConfigError(f"--roi {text!r}: four numbers are wanted, such as 0.1,0.2,0.9,0.8")
    if mistake := roi_mistake(roi):
        raise ConfigError(f"--roi: {mistake}")
    return roi


def _features(arguments: argparse.Namespace) -> int:
    from agent.infer.graph.cutting import cut, layers
    from agent.infer.graph.flatbuffer import Graph

    if arguments.list:
        for layer in layers(Graph.load(arguments.model)):
            shape = f"{layer.rows} x {layer.columns} x {layer.channels}"
            print(f"{layer.index:4}  {layer.operator:18} {shape:16} {layer.dtype:8} {layer.name}")  # noqa: T201
        return 0
    if arguments.out is None or not arguments.layer:
        raise ConfigError("--layer and -o are wanted, or --list", hint="--list shows the layers")
    for layer in cut(arguments.model, arguments.layer, arguments.out):
        print(f"{arguments.out}: {layer.name}, {layer.rows} x {layer.columns} x {layer.channels} {layer.dtype}")  # noqa: T201
    return 0
