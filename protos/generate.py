"""Generate tilth_protos from the .proto files beside this script.

    python protos/generate.py           write protos/tilth_protos
    python protos/generate.py --check   fail when the committed code differs

protoc's virtual path (`-I tilth_protos=protos`) makes the generated imports come out as
`tilth_protos.x_pb2`. The pinned grpcio-tools sets the floors of grpcio and protobuf in pyproject.
"""

import os
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
PACKAGE = "tilth_protos"


def generate(target: Path) -> dict[str, bytes]:
    """Run protoc into `target`; return the generated files by name."""
    sources = [f"{PACKAGE}/{path.name}" for path in sorted(PROTOS.glob("*.proto"))]
    arguments = [
        "protoc",
        f"-I{PACKAGE}={PROTOS}",
        f"-I{files('grpc_tools') / '_proto'}",
        *(f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *sources,
    ]
    # protoc finds its mypy plugins beside the interpreter they were installed with
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its messages stand above")
    return {path.name: path.read_bytes() for path in (target / PACKAGE).iterdir()}


def differences(expected: dict[str, bytes], folder: Path) -> list[str]:
    """Name what in `folder` is stale, missing or left over."""
    committed = {path.name: path.read_bytes() for path in folder.glob("*_pb2*")}
    names = sorted(expected.keys() | committed.keys())
    return [name for name in names if expected.get(name) != committed.get(name)]


def main() -> int:
    folder = PROTOS / PACKAGE
    with tempfile.TemporaryDirectory() as scratch:
        expected = generate(Path(scratch))
    stale = differences(expected, folder)
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"stale: {folder / name}; run python protos/generate.py\n")
        return 1 if stale else 0
    for name in stale:
        if name in expected:
            (folder / name).write_bytes(expected[name])
        else:
            (folder / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
