"""The corners of a chessboard in a picture, through OpenCV: the only file that imports it (extra `calibrate`)."""

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError


def chessboard_corners(luma: NDArray[np.uint8], columns: int, rows: int) -> NDArray[np.float64]:
    """(columns * rows, 2) pixels of the inner corners, row by row. Raises ConfigError."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a chessboard needs OpenCV, which is missing",
            hint="pip install 'edgewright[calibrate]', or give known points with --point",
        ) from error
    find = cv2.findChessboardCornersSB
    there, corners = find(np.ascontiguousarray(luma), (columns, rows), flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not there or corners is None:
        raise ConfigError(
            f"no chessboard of {columns} by {rows} inner corners is in the picture",
            hint="all of it must be in view, with a white border; count the corners where four squares meet",
        )
    return np.asarray(corners, np.float64).reshape(-1, 2)
