"""Which nodes may hold a blob, as far as the ledger tells. Pure, over its rows.

- A model lies at its worker, or with who imported it; then at the workers whose tasks took it as
  input.
- The file of an image lies with who states it.
- What a task wrote besides lies at its worker.
- Archives lie at their owner and, being small, at every node with the right.
"""

from collections.abc import Iterator

from tilth_ledger.rows import Row, Rows
from tilth_node.worker.blobs import Wanted

OF_TASKS = ("log", "report", "predictions")


def wanted(rows: Rows, digest: str, max_bytes: int) -> Wanted:
    """Where to fetch a blob, best first; its size where the ledger knows it. Nobody, where all who
    held it were removed."""
    holders: dict[str, None] = {}
    size: int | None = None
    for what, asset, row in namings(rows, digest):
        if what == "model":
            model = model_row(rows, asset, row)
            size = size if model is None else model["size"]
        elif what == "image":
            size = (rows.get(f"image/{asset}") or {"file": {"size": size}})["file"]["size"]
        holders |= dict.fromkeys(_holders(rows, what, asset, row))
    there = tuple(name for name in holders if not _is_gone(rows, name))
    return Wanted(digest, there, max_bytes, size)


def _is_gone(rows: Rows, organization: str) -> bool:
    return bool((rows.get(f"organization/{organization}") or {}).get("removed"))


def namings(rows: Rows, digest: str) -> Iterator[tuple[str, str, Row]]:
    """(what, asset key, row) of each asset that names a blob."""
    prefix = f"blob/{digest}/"
    for key, row in rows.scan(prefix):
        what, _, asset = key.removeprefix(prefix).partition("/")
        yield what, asset, row


def model_row(rows: Rows, asset: str, row: Row) -> Row | None:
    """The model behind a `blob/<digest>/model/<asset>` row: a task's output or an import."""
    return rows.get(f"model/{asset}/{row['output']}" if "output" in row else f"model/{asset}")


def _holders(rows: Rows, what: str, asset: str, row: Row) -> Iterator[str]:
    owner = asset.partition("/")[0]
    if what == "model":
        model = model_row(rows, asset, row) or {}
        yield str(model.get("worker", owner))
        for key, _ in rows.scan(f"child/{asset}/"):
            child = rows.get(f"task/{key.removeprefix(f'child/{asset}/')}")
            if child is not None and child["state"] in ("doing", "done"):
                yield str(child["worker"])
    elif what in OF_TASKS:
        yield str((rows.get(f"task/{asset}") or {}).get("worker", owner))
    elif what == "image":
        yield owner
    else:
        yield owner
        for key, _ in rows.scan("organization/"):
            yield key.removeprefix("organization/")
