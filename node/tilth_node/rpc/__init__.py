"""gRPC: the only place of the node that imports it."""

import os

# grpc's own log would mix lines of another form into the node's; what matters of it we report.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
