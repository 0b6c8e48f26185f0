"""Whether a node serves: what `tilth node health FOLDER` asks, for health checks of containers.

It is asked as a client would: connect to the port that run/ready.json names, and take the node's
certificate. A process that hangs or is gone does not answer. Nothing is logged in, nothing changed.
"""

import json
import socket
import ssl
from pathlib import Path

from tilth_ledger.errors import Unavailable
from tilth_node import config, keystore
from tilth_node.config import address
from tilth_node.folder import Folder

SECONDS = 4


def check(path: Path) -> str:
    """The address that answered. Raises Unavailable with what is wrong."""
    folder = Folder(path)
    organization = config.load(path).organization
    authority = keystore.authorities(folder.keys).decode("ascii")
    at = "no address"
    try:
        at = str(json.loads(folder.ready.read_bytes())["client_address"])
        context = ssl.create_default_context(cadata=authority)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(address(at), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=f"{organization}.tilth"),
        ):
            return at
    except FileNotFoundError as error:
        raise Unavailable(
            "the node does not run",
            found=f"no {folder.ready}",
            expected=f"a node running on {path}",
            remedy=f"tilth node run {path}",
        ) from error
    except (OSError, ValueError) as error:
        raise Unavailable(
            "the node does not answer",
            found=f"{at}: {error}",
            expected=f"a node running on {path}",
            remedy="its log says what it does; its service or container should restart it",
        ) from error
