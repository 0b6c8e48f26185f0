"""gRPC: the only place of the node that imports it."""
