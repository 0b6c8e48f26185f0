"""The node: the server of one organization. IO is here; what all must agree on is decided below."""
