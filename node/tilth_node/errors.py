"""What can go wrong in a node beyond the errors of the ledger.

TilthError
  InvalidInput
    Unauthenticated    a request or connection that does not prove who asks
  Fatal
    StorageFailed      a write to the journal or to the ledger's store
"""

from tilth_ledger.errors import Fatal, InvalidInput


class Unauthenticated(InvalidInput):
    """A request or connection that does not prove who asks."""


class StorageFailed(Fatal):
    """A write that the ledger depends on failed: what is on disk is unknown until a restart."""
