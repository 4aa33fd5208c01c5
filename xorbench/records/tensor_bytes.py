"""Sizes of tensor elements, for code without PyTorch."""

from typing import Final

WIDTHS: Final = {
    "bfloat16": 2,
    "bool": 1,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "int8": 1,
    "uint8": 1,
}
"""Bytes of an element, by the type's name."""
