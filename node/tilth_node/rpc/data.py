"""The client service Data: an owner of this organization takes data in on this node.

- Nobody else may: data are named by a path on the node's own disk.
- Files are read in a thread; the caller sees progress while it goes on. Nothing is registered
  here: the owner signs `sample.add` with what comes back.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from tilth_ledger.errors import Refused
from tilth_ledger.rows import Row, Rows
from tilth_node.rpc.interceptors import Context, caller
from tilth_node.storage.samples import Sample
from tilth_node.worker.data import Imported, Importer, Progress, Request
from tilth_protos import tasks_pb2 as pb
from tilth_protos import tasks_pb2_grpc as pb_grpc

SAMPLES_PER_MESSAGE = 1_000


class DataService(pb_grpc.DataServicer):
    """Imports for `organization`; one import at a time."""

    def __init__(self, organization: str, importer: Importer, rows: Rows) -> None:
        self._organization, self._importer, self._rows = organization, importer, rows
        self._turn = asyncio.Lock()

    async def Import(  # noqa: N802
        self, request: pb.ImportRequest, context: Context
    ) -> AsyncIterator[pb.ImportResponse]:
        """Progress while files are read, then the samples."""
        dataset = self._dataset(request.dataset)
        wanted = Request(
            request.label, Path(request.path), request.in_place, tuple(dataset["targets"])
        )
        async with self._turn:
            progress: asyncio.Queue[Progress | None] = asyncio.Queue()
            reading = asyncio.create_task(self._read(wanted, progress))
            while (step := await progress.get()) is not None:
                yield pb.ImportResponse(progress=_progress(step))
            samples = self._importer.record(await reading, self._rows)
        for start in range(0, len(samples), SAMPLES_PER_MESSAGE):
            part = [_sample(each) for each in samples[start : start + SAMPLES_PER_MESSAGE]]
            yield pb.ImportResponse(samples=pb.ImportedSamples(samples=part))

    async def _read(
        self, wanted: Request, progress: asyncio.Queue[Progress | None]
    ) -> list[Sample]:
        loop = asyncio.get_running_loop()

        def tell(step: Progress) -> None:
            loop.call_soon_threadsafe(progress.put_nowait, step)

        try:
            return await asyncio.to_thread(self._importer.read, wanted, tell)
        finally:
            progress.put_nowait(None)

    def _dataset(self, key: str) -> Row:
        """The dataset's row, if the caller may add data to it."""
        who, row = caller(), self._rows.get(f"dataset/{key}")
        if who.organization != self._organization or "owner" not in who.roles:
            raise Refused(
                "A1",
                "only an owner of this node's organization takes data in here",
                found=f"{who.organization} as {', '.join(who.roles)}",
                expected=f"{self._organization} as owner",
                remedy="use a key with the role owner: tilth identity add --role owner",
            )
        if row is None or row["owner"] != self._organization:
            raise Refused(
                "D1",
                "samples go into datasets of their own organization only",
                found=key,
                expected=f"a dataset of {self._organization}",
                remedy="register the dataset first: tilth data add",
            )
        return row


def _progress(step: Progress) -> pb.ImportProgress:
    return pb.ImportProgress(
        samples=step.samples,
        samples_total=step.samples_total,
        bytes=step.bytes,
        bytes_total=step.bytes_total,
    )


def _sample(imported: Imported) -> pb.ImportedSample:
    sample = imported.sample
    return pb.ImportedSample(
        key=sample.key,
        commitment=sample.commitment,
        tag=sample.tag,
        known=imported.known,
        name=sample.name,
    )
