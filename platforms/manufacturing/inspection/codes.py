"""QR and DataMatrix codes in a picture, through zxing-cpp: the only file that imports it (extra `codes`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CODES_MAX = 8


def reader_mistake() -> str:
    """Why codes cannot be read on this machine; empty where they can."""
    try:
        import zxingcpp  # noqa: F401
    except ModuleNotFoundError:
        return "the package zxing-cpp is missing; pip install 'edgewright[codes]'"
    return ""


def read_codes(luma: NDArray[np.uint8]) -> list[str]:
    """The texts of the codes in (height, width) uint8, from left to right; those that cannot be read are left out."""
    import zxingcpp

    formats: Any = (zxingcpp.BarcodeFormat.QRCode, zxingcpp.BarcodeFormat.DataMatrix)
    found = zxingcpp.read_barcodes(np.ascontiguousarray(luma), formats=formats)
    read = [code for code in found if code.valid and code.text]
    read.sort(key=lambda code: code.position.top_left.x)
    return [str(code.text) for code in read[:CODES_MAX]]
