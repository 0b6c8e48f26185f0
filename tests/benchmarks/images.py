"""How large the node's and the tasks' images are over the base that both stand on."""

import sys
from pathlib import Path

BARS_MB = {"tilth-node": 250, "tilth-task": 500}
FILES = {
    "tilth-node": ("deploy/node.Dockerfile", "."),
    "tilth-task": ("deploy/task.Dockerfile", "deploy"),
}

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))


def main():
    """Yields the size of each, built now."""
    from engine import BASE, Engine

    with Engine() as engine:
        engine.start()
        engine.make_images()
        base = size_mb(engine, BASE)
        for name, (file, context) in FILES.items():
            engine.build(name, file, context)
            size = size_mb(engine, name) - base
            yield {
                "figure": f"images: {name} over its base",
                "value": round(size, 1),
                "unit": "MB",
                "bar": BARS_MB[name],
                "holds": size <= BARS_MB[name],
                "against": f"{BASE}, {base:.0f} MB",
                "ratio": round(size / base, 2),
            }


def size_mb(engine, image):
    return int(engine.docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6
