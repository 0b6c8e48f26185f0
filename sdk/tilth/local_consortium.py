"""`tilth.local()`: a real consortium on this machine, to try things on, gone when you are done.

    with tilth.local() as net:
        digits = net.datasets.add("digits", opener="opener", train="data/train")
        others = net.at("hospital-b").datasets.add("digits", opener="opener", train="more/train")

Real nodes with real keys, votes, isolation and receipts; only all keys are made in one place. What
runs on it runs unchanged on a consortium behind `tilth.connect`.

Invariants:
- It ends with the `with` block, with `close()`, or with this process, whatever ends that.
- Nothing is written outside of its folder: no profile of yours is touched.
- What a person of one organization has written, a person of another reads.

Left to others: the engine that starts nodes, which tilth_node registers (entry point group
`tilth.engines`); the SDK never imports the node.
"""

import re
import string
import weakref
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from tilth import profiles
from tilth.client import Network
from tilth.errors import InvalidInput

ENGINES = "tilth.engines"
EXTRA = "node"
ROLES = ("admin", "organizer", "owner", "scientist")


class Held(Protocol):
    """A running consortium, as an engine gives it."""

    facts: Mapping[str, Any]  # folder, genesis, grade, sites: organization, address, admin_key

    def close(self) -> None: ...


def local(organizations: int | Sequence[str] = 3, *, folder: str | Path | None = None) -> "Local":
    """Starts a throw-away consortium on this machine (about three seconds).

    organizations  how many, named hospital-a, hospital-b, ..., or their names
    folder         new or empty, where it lives and stays when it has ended; by default a temporary
                   one, which is removed

    Raises InvalidInput without the `node` extra.
    """
    names = _names(organizations)
    held = _engine()(names, None if folder is None else Path(folder).absolute())
    try:
        return Local(held)
    except BaseException:  # also Ctrl-C: nobody else knows of the nodes yet
        held.close()
        raise


class Local(Network):
    """The consortium as its first organization sees it; `at` gives the others.

    folder   everything it consists of; TILTH_HOME=FOLDER/home makes the command line see it
    grade    what isolates tasks on this machine, as its self-test found: A (best) to D (none)
    """

    def __init__(self, held: Held) -> None:
        facts = held.facts
        self.folder = Path(facts["folder"])
        self.grade: str = facts["grade"]
        genesis = Path(facts["genesis"])
        people = [_arrive(self.folder / "home", genesis, site) for site in facts["sites"]]
        self._people = {person.organization: person for person in people}
        self._others: dict[str, Network] = {}
        self._end = weakref.finalize(self, held.close)
        super().__init__(people[0])

    def at(self, organization: str) -> Network:
        """The consortium as a person of that organization sees it, with a key of its own."""
        if organization == self.organization:
            return self
        if organization not in self._people:
            raise InvalidInput(
                "this organization is not in the local consortium",
                found=organization,
                expected=", ".join(self._people),
                remedy="Name the organizations when it starts: tilth.local([...])",
            )
        if organization not in self._others:
            self._others[organization] = Network(self._people[organization], beside=self)
        return self._others[organization]

    def close(self) -> None:
        """Ends the nodes, and removes a temporary folder. Again is harmless."""
        for other in self._others.values():
            other.close()
        super().close()
        self._end()


def _names(organizations: int | Sequence[str]) -> list[str]:
    if isinstance(organizations, str):
        organizations = [organizations]
    if not isinstance(organizations, int):
        names = list(organizations)
    else:
        names = [f"hospital-{letter}" for letter in string.ascii_lowercase[:organizations]]
    if not names or len({*names}) != len(names):
        raise InvalidInput(
            "a local consortium needs organizations, each once",
            found=", ".join(names) or str(organizations),
            expected="a number from 1 to 26, or names that differ",
            remedy="Name each once: tilth.local(['north', 'south'])",
        )
    return names


def _arrive(home: Path, genesis: Path, site: Mapping[str, str]) -> profiles.Profile:
    """A person with every role at one organization, let in by its admin."""
    name = site["organization"]
    reach: dict[str, Any] = {
        "address": site["address"],
        "organization": name,
        "genesis": genesis,
        "place": home,
    }
    mine = profiles.add(name, **reach)
    admin = profiles.add(f"{name}-admin", key=Path(site["admin_key"]), **reach)
    with Network(admin) as net:
        net.identities.add(mine.signing_key().public.hex, roles=ROLES)
    return mine


def _engine() -> Callable[[Sequence[str], Path | None], Held]:
    """What the node registers. Raises InvalidInput when its extra is not installed."""
    lacking = missing(required(EXTRA))
    if not lacking:
        for point in metadata.entry_points(group=ENGINES, name="local"):
            engine: Callable[[Sequence[str], Path | None], Held] = point.load()
            return engine
    raise InvalidInput(
        "tilth.local() runs real nodes, and the node is not installed",
        found=f"no {', '.join(lacking)}" if lacking else f"nothing registered as {ENGINES}",
        expected=f"Tilth with its extra `{EXTRA}`",
        remedy=f"Run: pip install 'tilth[{EXTRA}]'",
    )


def required(extra: str) -> list[str]:
    """The distributions that an extra of Tilth brings."""
    marked = re.compile(rf"""([A-Za-z0-9._-]+).*;.*extra\s*==\s*["']{extra}["']""")
    return [found[1] for text in metadata.requires("tilth") or () if (found := marked.match(text))]


def missing(names: Sequence[str]) -> list[str]:
    """Those of the distributions that are not installed."""
    installed = {name for name in names if any(metadata.distributions(name=name))}
    return [name for name in names if name not in installed]
