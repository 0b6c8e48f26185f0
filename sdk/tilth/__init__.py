"""Tilth: federated learning with a ledger anyone can verify.

    net = tilth.connect("hospital-a")

Everything public is named in `__all__` and loaded on first use, so that `import tilth` stays
cheap: it reads no other module of the package, no gRPC, no numpy, no h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tilth.client import Network, connect
    from tilth.errors import InvalidInput, Refused, TilthError, Unknown, Unreachable
    from tilth.local_consortium import local
    from tilth.plan import Plan, Task
    from tilth.verification import verify

_HOMES = {
    "InvalidInput": "tilth.errors",
    "Network": "tilth.client",
    "Plan": "tilth.plan",
    "Refused": "tilth.errors",
    "Task": "tilth.plan",
    "TilthError": "tilth.errors",
    "Unknown": "tilth.errors",
    "Unreachable": "tilth.errors",
    "connect": "tilth.client",
    "local": "tilth.local_consortium",
    "verify": "tilth.verification",
}

__all__ = [
    "InvalidInput",
    "Network",
    "Plan",
    "Refused",
    "Task",
    "TilthError",
    "Unknown",
    "Unreachable",
    "__version__",
    "connect",
    "local",
    "verify",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tilth' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
