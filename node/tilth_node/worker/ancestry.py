"""Which local folder a task continues: the one of its nearest ancestor on the same node.

Pure, over the ledger's rows. Two equally near ancestors are refused at submission, so the first
one found is the only one.
"""

from collections.abc import Iterator

from tilth_ledger.rows import Row, Rows

WITH_FOLDER = ("train", "composite", "aggregate")


def nearest(rows: Rows, task: Row) -> str | None:
    """The key of the task whose local folder `task` starts from, None when it starts empty."""
    if task["kind"] not in WITH_FOLDER:
        return None
    seen: set[str] = set()
    level = sorted(set(parents(task)))
    while level:
        found = [(key, row) for key in level if (row := rows.get(f"task/{key}")) is not None]
        for key, row in found:
            if row["worker"] == task["worker"] and row["kind"] in WITH_FOLDER:
                return key
        seen.update(level)
        level = sorted({parent for _, row in found for parent in parents(row)} - seen)
    return None


def parents(task: Row) -> Iterator[str]:
    """The tasks whose outputs are inputs of `task`."""
    for each in task.get("inputs", ()):
        if "task" in each:
            yield each["task"]
