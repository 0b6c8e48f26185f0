"""Text tables: columns as wide as their content, numbers to the right. No colours, no borders."""

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lines of a table; a table without rows is its head and the word `none`.

    A column is right-aligned when everything below its head is a number.
    """
    cells = [[_text(value) for value in row] for row in rows]
    widths = [
        max(len(line[column]) for line in [list(head), *cells]) for column in range(len(head))
    ]
    right = [
        bool(cells) and all(_number(row[column]) for row in cells) for column in range(len(head))
    ]
    lines = [_line(list(head), widths, right), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths, right) for row in cells] or ["none"]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(text: str) -> bool:
    return text == "" or text.removeprefix("-").replace(".", "", 1).isdigit()
