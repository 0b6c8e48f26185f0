"""Who votes, and who of them is here: read from what a node says of itself.

`status` is what `Transport.status` gives, with `votes`: whether the node's own organization has a
vote.
"""

from typing import Any

Facts = dict[str, Any]


def members(status: Facts) -> list[str]:
    """The organizations that vote."""
    peers = [each["organization"] for each in status["peers"] if each["member"]]
    return [*peers, *([status["organization"]] if status["votes"] else [])]


def members_here(status: Facts) -> int:
    """How many of them the node is connected with, itself included."""
    peers = sum(each["member"] and each["connected"] for each in status["peers"])
    return int(peers) + bool(status["votes"])


def lacks_quorum(status: Facts) -> bool:
    """Whether nothing new becomes final for want of members."""
    return members_here(status) < int(status["quorum"])


def found(status: Facts) -> str:
    """Who is there and who is not, as the node sees it."""
    if status["halted"]:
        return str(status["halted"])
    away = [e["organization"] for e in status["peers"] if e["member"] and not e["connected"]]
    here, count = members_here(status), len(members(status))
    words = f"{here} of {count} members {'is' if here == 1 else 'are'} here"
    words += f" ({', '.join(away)} away)" if away else ""
    return words + (f"; {status['alarm']}" if status["alarm"] else "")
