"""Who is being given a snapshot: some at once, the others in the order in which they asked.

- A place that is wanted by others goes on in time: who took nothing for `IDLE_MS`, or has had one
  for `TURN_MS`, loses it to the one who waits longest. Where nobody waits, nobody loses one.
- Who waits asks again; who has not for `WAIT_MS` waits no more. So nobody holds a place, or one in
  the queue, by silence.

Leaves to others: clocks, rows, connections (joining).
"""

from collections.abc import Iterator
from dataclasses import dataclass

IDLE_MS = 10_000
TURN_MS = 60_000
WAIT_MS = 30_000


@dataclass(slots=True, eq=False)
class Place:
    """One answer that is being given; times in ms."""

    organization: str
    since_ms: int  # when the organization got it, over all its asks without a gap
    taken_ms: int


class GivingPlaces:
    """At most `count` organizations at once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._places: dict[str, Place] = {}
        self._waiting: dict[str, int] = {}  # who was refused, when last; the first came first
        self._ended: dict[str, Place] = {}  # whose answer ended: they may go on with another

    def take(self, organization: str, now_ms: int) -> Place | None:
        """A place for an answer, in the stead of an older one to the same; None: ask again."""
        self._forget(now_ms)
        held = self._places.get(organization) or self._ended.get(organization)
        if held is None or (self._others_wait(organization) and self._is_over(held, now_ms)):
            if not self._may_begin(organization, now_ms):
                self._places.pop(organization, None)
                self._ended.pop(organization, None)
                self._waiting[organization] = now_ms
                return None
            held = None
        self._ended.pop(organization, None)
        self._waiting.pop(organization, None)
        since = now_ms if held is None else held.since_ms
        place = self._places[organization] = Place(organization, since, now_ms)
        return place

    def goes_on(self, place: Place, now_ms: int) -> bool:
        """Whether the next piece may be given; the one before it was taken."""
        if self._places.get(place.organization) is not place:
            return False
        place.taken_ms = now_ms
        return True

    def leave(self, place: Place, now_ms: int) -> None:
        """The answer has ended, whoever ended it."""
        if self._places.get(place.organization) is place:
            del self._places[place.organization]
            place.taken_ms = now_ms
            self._ended[place.organization] = place

    def _may_begin(self, organization: str, now_ms: int) -> bool:
        """Whether a place is free, or to be freed, beyond those that others wait for longer."""
        over = [each for each in self._held() if self._is_over(each, now_ms)]
        ahead = list(self._waiting)
        before = ahead.index(organization) if organization in ahead else len(ahead)
        free = self._count - len(self._places.keys() | self._ended.keys())
        if free + len(over) <= before:
            return False
        if free <= before:
            oldest = min(over, key=lambda each: each.since_ms)
            self._places.pop(oldest.organization, None)
            self._ended.pop(oldest.organization, None)
        return True

    def _held(self) -> Iterator[Place]:
        yield from self._places.values()
        yield from self._ended.values()

    def _others_wait(self, organization: str) -> bool:
        return any(each != organization for each in self._waiting)

    @staticmethod
    def _is_over(place: Place, now_ms: int) -> bool:
        return now_ms - place.taken_ms >= IDLE_MS or now_ms - place.since_ms >= TURN_MS

    def _forget(self, now_ms: int) -> None:
        """Who does not ask any more, and who does not go on."""
        self._waiting = {name: at for name, at in self._waiting.items() if now_ms - at < WAIT_MS}
        self._ended = {
            name: place for name, place in self._ended.items() if now_ms - place.taken_ms < IDLE_MS
        }
