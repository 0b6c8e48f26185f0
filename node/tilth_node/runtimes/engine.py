"""The connection to a container engine: calls in threads, faults in plain words.

Invariants
- Nothing of the `docker` package is imported before the first call: an idle node stays small.
- A call never blocks the event loop; waiting is the engine's own, not ours.
- Every failure is an `EngineFault`, a fault of this machine that the worker waits out; `status` is
  the engine's HTTP status, 0 when it did not answer.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tilth_node.runtimes import NodeFault
from tilth_node.runtimes.enginefacts import OLDEST_NAME, new_enough

if TYPE_CHECKING:
    from docker import APIClient

Result = TypeVar("Result")
SOCKET: Final = "unix:///var/run/docker.sock"
ABSENT, CONFLICT = 404, 409
_ANY: Final = "1.40"  # asked for nothing but its version
_THREADS: Final = 32  # each waiting step holds one
_PROBE_SECONDS: Final = 5
_CALL_SECONDS: Final = 300  # of silence, in a call that is no wait


class EngineFault(NodeFault):
    """The engine is not there, or could not do what was asked."""

    def __init__(
        self,
        message: str,
        *,
        found: object = "",
        expected: object = "",
        remedy: str = "",
        status: int = 0,
    ) -> None:
        super().__init__(message, found=found, expected=expected, remedy=remedy)
        self.status = status


class NoEngine(EngineFault):
    """Nobody named an engine, and there is none where engines usually are."""


class Engine:
    """One engine; `address` as DOCKER_HOST says it, by default from there."""

    def __init__(self, address: str = "", seconds: float = _CALL_SECONDS) -> None:
        self._seconds = seconds
        self.address = address or os.environ.get("DOCKER_HOST", "") or SOCKET
        self._api: APIClient | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="engine")

    async def run(self, work: "Callable[[APIClient], Result]") -> Result:
        """The result of `work`, done in a thread. Raises EngineFault."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.now, work)

    def now(self, work: "Callable[[APIClient], Result]") -> Result:
        """The same, in the calling thread."""
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        try:
            if self._api is None:
                self._api = _connect(self.address, self._seconds)
            return work(self._api)
        except APIError as error:
            raise _refused(error.status_code or 0, str(error.explanation or error)) from error
        except (DockerException, RequestException, HTTPError) as error:
            raise _unreachable(self.address, error) from error

    def close(self) -> None:
        """Give threads and connections back; calls under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._api is not None:
            self._api.close()


def trouble(address: str, image: str) -> EngineFault | None:
    """Why an engine cannot run steps at once; None when it can. Imports nothing where there is no
    engine."""
    engine = Engine(address, _PROBE_SECONDS)
    if engine.address.startswith("unix://") and not os.path.exists(engine.address[7:]):
        named = address or os.environ.get("DOCKER_HOST", "")
        return (EngineFault if named else NoEngine)(
            "there is no container engine",
            found=f"no socket {engine.address}",
            expected="a running Docker or Podman engine",
            remedy="start it, or correct engine.address or DOCKER_HOST, which name it",
        )
    try:
        engine.now(lambda api: api.inspect_image(image))  # type: ignore[no-untyped-call]
    except EngineFault as fault:
        if fault.status != ABSENT:
            return fault
        return EngineFault(
            "the engine lacks the image of tasks",
            found=f"no image {image} at {engine.address}",
            remedy=f"make {image} as deploy/task.Dockerfile says, or docker load it; "
            "engine.base in node.toml names another",
            status=ABSENT,
        )
    finally:
        engine.close()
    return None


def _connect(address: str, seconds: float) -> "APIClient":
    from docker import APIClient
    from docker.utils import kwargs_from_env

    settings: dict[str, Any] = {**kwargs_from_env(), "base_url": address, "timeout": int(seconds)}
    with contextlib.closing(APIClient(version=_ANY, **settings)) as asked:
        said: Any = asked.version(api_version=False)
    if not isinstance(said, dict) or "ApiVersion" not in said:
        raise _unreachable(address, ValueError("what answers is no container engine"))
    api = str(said["ApiVersion"])
    if not new_enough(api):
        raise EngineFault(
            "the container engine is too old",
            found=f"API {api} at {address}",
            expected=OLDEST_NAME,
            remedy="install a newer one, or name another with DOCKER_HOST; "
            'runtime = "sandbox" in node.toml does without',
        )
    return APIClient(version=api, max_pool_size=_THREADS, **settings)


def _refused(status: int, words: str) -> EngineFault:
    """What an engine that answers said, with what helps."""
    if "no space left on device" in words:
        return EngineFault(
            "the engine's disk is full",
            found=words,
            expected="free space where the engine keeps images and volumes",
            remedy="docker system df shows what fills it; docker image prune frees old images",
            status=status,
        )
    return EngineFault("the engine refused a call", found=words, status=status)


def _unreachable(address: str, error: BaseException) -> EngineFault:
    """Why there is no answer: no socket, no right to it, or an engine that went away."""
    said = _of_system(error)
    if isinstance(said, PermissionError) or "Permission denied" in str(error):
        return EngineFault(
            "this user may not use the engine's socket",
            found=f"{address}: permission denied",
            remedy="add the node's user to the group that owns the socket (docker), "
            "or give the node a rootless engine of its own with DOCKER_HOST",
        )
    return EngineFault(
        "no container engine answers",
        found=f"{address}: {said.strerror if said else error}",
        expected="a running Docker or Podman engine",
        remedy="start it, or name its socket with DOCKER_HOST; tasks wait until it is back",
    )


def _of_system(error: BaseException | None) -> OSError | None:
    """What the system said; clients wrap it in errors of their own, several deep."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error
        error = error.__cause__ or error.__context__
    return None
