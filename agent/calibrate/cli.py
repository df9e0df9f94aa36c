"""The arguments of `edge-agent calibrate`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, metavar="FILE", help="a picture of the camera; its size goes with it")
    text = "a known point, x,y in pixels and X,Y in mm, as 120,80=0,0; two make a scale, four or more a plane"
    parser.add_argument("--point", action="append", default=[], metavar="x,y=X,Y", help=text)
    text = "inner corners of a chessboard in the picture, as 9x6"
    parser.add_argument("--chessboard", metavar="COLUMNSxROWS", help=text)
    parser.add_argument("--square-mm", type=float, metavar="MM", help="side of one square of the chessboard")
    text = "refuse a calibration whose worst point is off by more"
    parser.add_argument("--residual-max", type=float, metavar="MM", help=text)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the calibration to make")
    parser.add_argument("--json", action="store_true", help="say it as a JSON object")
    parser.set_defaults(run=_calibrate)


def _calibrate(arguments: argparse.Namespace) -> int:
    from agent.calibrate.calibrating import calibrate  # arrays and decoders, which the other commands do without

    return calibrate(arguments)
