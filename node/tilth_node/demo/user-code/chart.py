"""Validation curves as text: one mark per round and algorithm."""

MARKS = "ox+*"
HEIGHT = 8
COLUMN = 4  # characters of one round


def chart(curves):
    """Lines of a chart of {name: [value of round 1, round 2, ...]}."""
    values = [value for curve in curves.values() for value in curve]
    low, high = min(values), max(values)
    step = (high - low) / (HEIGHT - 1) or 0.01
    rounds = max(len(curve) for curve in curves.values())
    grid = [[" "] * (rounds * COLUMN) for _ in range(HEIGHT)]
    for mark, curve in zip(MARKS, curves.values(), strict=False):
        for number, value in enumerate(curve):
            row = grid[round((value - low) / step)]
            column = number * COLUMN + COLUMN // 2
            row[column + (row[column] != " ")] = mark  # two at one place stand side by side
    lines = [f"{low + i * step:.3f} |{''.join(grid[i])}".rstrip() for i in reversed(range(HEIGHT))]
    lines.append("      +" + "-" * (rounds * COLUMN))
    lines.append("round  " + "".join(f"{number:^{COLUMN}}" for number in range(1, rounds + 1)))
    legend = [f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False)]
    return "\n".join([*lines, "", "   ".join(legend)])
