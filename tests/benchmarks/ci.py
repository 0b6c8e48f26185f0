"""How long `.ci/run` takes: from a fresh clone of what is committed, warm, and with COLD=1 cold.

    make bench NAME=ci            # system packages, downloads and images are here already
    COLD=1 make bench NAME=ci     # in a bare Debian 12 root: nothing is; needs root and mmdebstrap

`against` is what this machine's cores would need for the processor time of the run alone (without
that of containers, which an engine starts); a ratio of 1 means that no core ever waited. The run's
own lines, one per phase, follow as figures without a bar.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BARS_SECONDS = {"warm": 8 * 60, "cold": 15 * 60}
PLACE = "/src/tilth"
PHASE = re.compile(r"^(?:\.ci/run: )?([^:\n]+): (\d+) s", re.MULTILINE)
CERTIFICATES = """set -e
mkdir -p "$1/usr/local/share/ca-certificates"
cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" || true
chroot "$1" update-ca-certificates
"""
# A root of its own, as a machine has it: with devices, processes that end with it, and what pip is
# configured to read.
ENTER = """set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
for each in "$@"; do mkdir -p "$root$each"; mount --bind "$each" "$root$each"; done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
cd "$PLACE"
exec .ci/run
"""


def main():
    """Yields the time of the whole, then of its phases."""
    for how in ("warm", "cold") if os.environ.get("COLD") else ("warm",):
        with tempfile.TemporaryDirectory(prefix="tilth-ci-") as name:
            folder = Path(name)
            command, environment = (warm if how == "warm" else cold)(folder)
            yield from measured(how, command, environment, folder / "log")


def measured(how, command, environment, log):
    """Runs it; its figures."""
    before, begun = processor_seconds(), time.monotonic()
    with log.open("wb") as said:
        code = subprocess.run(command, env=environment, stdout=said, stderr=said).returncode
    seconds = time.monotonic() - begun
    floor = (processor_seconds() - before) / (os.cpu_count() or 1)
    text = log.read_text("utf-8", "replace")
    if code:
        said = [line for line in text.splitlines() if not line.startswith("WARNING")]
        print(*said[-60:], sep="\n", file=sys.stderr)
    yield {
        "figure": f"ci: {how}, {'all passed' if code == 0 else f'FAILED, exit {code}'}",
        "value": round(seconds),
        "unit": "s",
        "bar": BARS_SECONDS[how],
        "holds": code == 0 and seconds <= BARS_SECONDS[how],
        "against": round(floor),
        "ratio": round(seconds / floor, 2),
    }
    for phase, taken in PHASE.findall(text):
        yield {"figure": f"ci: {how}, {phase}", "value": int(taken), "unit": "s"}


def processor_seconds():
    """Of all processes that ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clone(place):
    """What is committed, as a stranger gets it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)


def warm(folder):
    """The command and its environment, on this machine as it is."""
    clone(folder / "tilth")
    return [str(folder / "tilth" / ".ci" / "run")], outside_of_this_environment()


def cold(folder):
    """The command and its environment, in a new root that holds Debian's essential packages."""
    root = folder / "root"
    hook = folder / "hook"
    hook.write_text(CERTIFICATES)
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"),
            *(f'--customize-hook=sh {hook} "$1"', "bookworm", str(root)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    clone(f"{root}{PLACE}")
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        Path(f"{root}{name}").write_bytes(Path(name).read_bytes())
    settings = pip_settings()
    wanted = {word for value in settings.values() for word in value.split()}
    folders = {word.removeprefix("file://").removesuffix("/simple") for word in wanted}
    environment = outside_of_this_environment() | settings
    environment |= {"PLACE": PLACE, "HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    shown = sorted(each for each in folders if each.startswith("/") and Path(each).is_dir())
    own = ["unshare", "-m", "-p", "--fork", "--kill-child"]
    return [*own, "bash", "-c", ENTER, "enter", str(root), *shown], environment


def pip_settings():
    """What pip is told on this machine, as variables: the new root has none of its files."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^(?:global|install|:env:)\.(\S+)='(.*)'$", listed, re.MULTILINE)
    return {f"PIP_{key.upper().replace('-', '_')}": value for key, value in found}


def outside_of_this_environment():
    """Variables without those of the Python environment that this runs in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MAKE"))
    }
