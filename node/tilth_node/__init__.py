"""The node: the server of one organization. It does IO and decides nothing that others must share."""
