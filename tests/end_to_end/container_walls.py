"""The first process of a container that tries what its profile must stop: see
test_container_walls.py. Runs inside, beside `escapes` and `overuse`."""

import contextlib
import errno
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
OUT = "/volumes/step/out/findings.json"


def write_system(aim):
    os.mkdir("/usr/tilth")
    return "wrote"


def write_shared(aim):
    with open("/task/data/x", "w"):
        return "wrote"


def fill_tmp(aim):
    return fill("/tmp", aim["scratch_bytes"])


def fill_shared_memory(aim):
    return fill("/dev/shm", aim["scratch_bytes"])


def fill(folder, size):
    """In several files: one alone would meet the bound of a file's size first."""
    paths = [f"{folder}/fill{n}" for n in range(4)]
    try:
        for path in paths:
            with open(path, "wb") as file:
                for _ in range(size >> 21):
                    file.write(bytes(1 << 20))
                    file.flush()
    finally:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    return f"wrote {2 * size}"


def make_files_without_end(aim):
    made = []
    try:
        while len(made) < 110_000:
            os.mknod(f"/tmp/{len(made)}")
            made.append(f"/tmp/{len(made)}")
    finally:
        for path in made:
            os.unlink(path)
    return f"made {len(made)} files"


def give_away(aim):
    with open("/tmp/own", "w"):
        pass
    os.chown("/tmp/own", 1, 1)
    return "gave a file to somebody"


def leave_a_core(aim):
    child = os.fork()
    if not child:
        os.chdir("/tmp")
        os.abort()
    if not os.WCOREDUMP(os.waitpid(child, 0)[1]):
        raise PermissionError("no core")
    return "left a core"


OWN = (
    *(write_system, write_shared, fill_tmp, fill_shared_memory, make_files_without_end),
    *(give_away, leave_a_core),
)


def main():
    import escapes

    aim = json.loads(os.environ["AIM"])
    attempts = {**escapes.all_attempts(), **{each.__name__: each for each in OWN}}
    findings = {}
    for name in aim["names"]:
        try:
            findings[name] = (False, attempts[name](aim))
        except (OSError, MemoryError) as error:
            code = getattr(error, "errno", None)
            findings[name] = (True, errno.errorcode[code] if code else str(error))
    with open(OUT, "w") as file:
        json.dump(findings, file)
    for _ in range(aim["log"] >> 10):
        print("x" * 1023)


if __name__ == "__main__":
    main()
