"""The worker as a part of a node: its stores below the node's folder, its services, its runs.

Layout below the folder: worker.db (outbox, runs, samples), vault/ (blobs), samples/ (copied data),
sets/ (trees that tasks see), local/ (local folders), code/ (unpacked archives), features/
(exported features), work/ (runs under way, emptied at start).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tilth_ledger.canonical import dumps
from tilth_ledger.limits import Limits
from tilth_ledger.steps import StepLimits
from tilth_node.config import Config
from tilth_node.folder import Folder
from tilth_node.node import Node, Part
from tilth_node.rpc.blobs import BlobsService
from tilth_node.rpc.data import DataService
from tilth_node.storage.desk import open_desk
from tilth_node.storage.folders import Folders
from tilth_node.storage.sets import Sets
from tilth_node.storage.vault import Vault
from tilth_node.worker.blobs import Blobs
from tilth_node.worker.data import Importer
from tilth_node.worker.images import ImageFiles
from tilth_node.worker.isolation import open_runtime, prove
from tilth_node.worker.leftovers import Leftovers
from tilth_node.worker.replicas import Replicas
from tilth_node.worker.residue import Residue
from tilth_node.worker.site import Site
from tilth_node.worker.staging import Stage
from tilth_node.worker.worker import Worker
from tilth_protos import tasks_pb2_grpc


class WorkerPart:
    """Stores, services, worker and replicas of one node."""

    def __init__(self, node: Node) -> None:
        home = node.folder.path
        self._node = node
        self._desk = open_desk(home / "worker.db")
        self._vault = Vault(home / "vault")
        self._folders = Folders(home / "local")
        self._blobs = Blobs(node.organization, self._vault, node.rows, node.peers, node.feed)
        self._importer = Importer(
            node.organization,
            node.config.data_roots,
            home / "samples",
            self._desk.samples,
            self._vault,
            node.clock,
        )
        stage = Stage(
            self._vault,
            self._desk.samples,
            Sets(home / "sets"),
            self._folders,
            home / "code",
            node.rows,
        )
        files = ImageFiles(node.organization, node.rows, self._vault, self._blobs)
        runtime = open_runtime(node.config, fetch=files)
        site = Site(
            organization=node.organization,
            net=node.genesis.net,
            limits=Limits.of_genesis(node.genesis.limits),
            signer=node.signer,
            rows=node.rows,
            submit=node.submit,
            ledger_ms=lambda: node.replication.time_ms,
            clock=node.clock,
            vault=self._vault,
            desk=self._desk,
            folders=self._folders,
            stage=stage,
            blobs=self._blobs,
            runtime=runtime,
            leftovers=Leftovers(runtime, self._desk.runs),
            allowance=allowance(node.config),
            scratch=home / "work",
            features=home / "features",
        )
        proof = partial(prove, runtime, allow_unisolated=node.config.allow_unisolated)
        self._worker = Worker(site, node.subscribe, node.config.slots, proof)
        self._residue = Residue(
            node.rows, self._vault, self._folders, stage, site.ledger_ms, self._worker.forget
        )
        node.scrub.on_blob = self._vault.sound
        self._worker.settled = self._residue.settled
        self._worker.show = partial(show_waiting, node.folder)
        self._replicas = Replicas(
            node.organization, node.rows, self._vault, self._blobs, node.subscribe
        )

    def services(self) -> Iterable[Callable[[Any], None]]:
        node = self._node
        blobs = BlobsService(node.organization, self._vault, self._blobs, node.rows)
        data = DataService(node.organization, self._importer, node.rows)
        return [
            lambda server: tasks_pb2_grpc.add_BlobsServicer_to_server(blobs, server),
            lambda server: tasks_pb2_grpc.add_DataServicer_to_server(data, server),
        ]

    async def start(self) -> None:
        show_waiting(self._node.folder, {})
        await self._worker.start()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.run())
            group.create_task(self._replicas.run())
            group.create_task(self._residue.run(self._node.subscribe))

    async def stop(self) -> None:
        await self._worker.stop()
        await self._blobs.stop()
        self._desk.close()


def allowance(config: Config) -> StepLimits:
    """What one step may use at most on this node; tasks and datasets may ask for less."""
    seconds = config.task_seconds
    return StepLimits(
        wall_ms=1_000 * seconds,
        cpu_ms=2_000 * seconds,
        memory_bytes=config.task_memory_mb << 20,
    )


def show_waiting(folder: Folder, waiting: Mapping[str, str]) -> None:
    """Write down what tasks wait for, for `tilth node status`. A crash leaves an old word, and so
    does a full disk: what is shown of the work must not stop it."""
    draft = folder.waiting.with_suffix(".new")
    with contextlib.suppress(OSError):
        folder.run.mkdir(mode=0o700, exist_ok=True)
        draft.write_bytes(dumps(dict(waiting)))
        draft.replace(folder.waiting)


def make(node: Node) -> Part:
    """For `tilth_node.assemble.PARTS`."""
    return WorkerPart(node)
