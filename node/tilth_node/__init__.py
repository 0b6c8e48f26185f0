"""The node: the server of one organization. It does IO and decides nothing other nodes must agree on."""
