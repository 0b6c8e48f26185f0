"""Running the steps of one attempt: isolations in order, outputs into the vault, evidence kept.

Invariants
- Each step runs in an isolation of its own; what crosses from one to the next is what the step
  declares. A test's labels never cross (`tilth_ledger.steps`).
- The handle of a step is journaled before it starts, and what was cancelled is really ended.
- Only declared outputs are taken, within their limits; models are durable before anybody says so.
- What user code left may be large: it is read, hashed and packed in threads, beside the ledger.
- User code's fault is a `Failed` at once; this node's own trouble is waited out. A step that was
  killed, nobody knows by whom, runs a second time and not a third.

Leaves to others: whether it may run (`tilth_node.worker.attempt`), what is said about it
(`tilth_node.worker.outcome`).
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tilth_ledger.archive import ArchiveBounds
from tilth_ledger.errors import InvalidInput, Refused, TilthError
from tilth_ledger.permissions import Rights
from tilth_ledger.results import read_count, read_score
from tilth_ledger.rows import Row
from tilth_ledger.steps import Kind, Source, Step, format_of, steps_of
from tilth_node.logs import logger
from tilth_node.runtimes import Environment, Handle, Reason, StepResult, StepSpec
from tilth_node.runtimes.unpack import pack
from tilth_node.storage import walk
from tilth_node.storage.runs import Run
from tilth_node.storage.samples import DataChanged
from tilth_node.storage.vault import Blob
from tilth_node.worker import claims, outcome
from tilth_node.worker.environments import blobs_of, environment_of
from tilth_node.worker.failure import Failed
from tilth_node.worker.features import Features
from tilth_node.worker.holders import namings, wanted
from tilth_node.worker.images import offered
from tilth_node.worker.patience import patiently
from tilth_node.worker.site import Site
from tilth_node.worker.staging import report_of

ARCHIVE_BYTES = 64 << 20
QUICK_BYTES = 128 << 10  # are hashed in a tenth of a millisecond
CLAIM_SECONDS = 10.0  # for a claimant in doubt: it must not hold a slot by saying nothing
PERF, REPORT = "perf.json", "report.json"


class Execution:
    """The run of one attempt at `task`; `tell` hears what it waits for."""

    def __init__(self, site: Site, task: Row, attempt: int, tell: Callable[[str], None]) -> None:
        self._site, self._task, self._attempt, self._tell = site, task, attempt, tell
        self._key: str = task["key"]
        # The row may still be that of before `doing`: a run after a crash must be the same run.
        numbered = {**task, "attempt": attempt}
        self._steps = steps_of(numbered, site.rows.get, site.allowance)
        self._scratch = site.scratch / f"{self._key.replace('/', '+')}.{attempt}"
        self._ran: list[Step] = []
        self._results: list[StepResult] = []
        self._features = Features(site.features)

    # -- before `doing` is final: nothing is mounted yet

    async def prepare(self) -> None:
        """Fetch what is not here, check the data (rule D2), build what is shared by tasks."""
        await self._check_claims()
        blobs = (self._fetch(digest) for digest in sorted(self._digests()))
        await asyncio.gather(*blobs, self._fetch_reports())
        await self._offer_environments()
        try:
            for key in self._sets():
                self._site.stage.members(key)
            await patiently(self._prepare_folders, self._tell)
        except DataChanged as error:
            raise Failed("data", str(error)) from error
        except InvalidInput as error:
            raise Failed("input", str(error)) from error

    async def _check_claims(self) -> None:
        """What is named by whom need not be theirs: in doubt they show that they have it."""
        rows, site = self._site.rows, self._site
        for digest, claimant in sorted(claims.of_steps(rows, self._task, self._steps)):
            if claims.doubtful(rows, site.organization, digest, claimant):
                show = partial(site.blobs.shown, digest, claimant, self._largest)
                try:
                    async with asyncio.timeout(CLAIM_SECONDS):
                        await patiently(show, self._tell)
                except (Refused, InvalidInput, TimeoutError) as error:
                    found = str(error) or f"{claimant} names {digest} and does not show it"
                    raise Failed("rights", found) from error

    async def _fetch_reports(self) -> None:
        """Reports lie beside models; one that this node may not have is gone without."""
        for digest in sorted(self._reports()):
            try:
                await self._fetch(digest)
            except Failed:
                continue

    async def _prepare_folders(self) -> None:
        await asyncio.to_thread(self._site.stage.prepare, self._steps, content=self._certifiable)

    async def _offer_environments(self) -> None:
        for key in sorted({step.environment for step in self._steps}):
            offer = partial(self._site.runtime.offer, self._environment_of(key))
            await patiently(offer, self._tell)

    def _environment_of(self, key: str) -> Environment:
        row = self._site.rows.get(f"environment/{key}") if key else None
        if row is None:
            return Environment()
        return environment_of(row, self._site.vault, offered(self._site.rows, row["digest"]))

    async def _fetch(self, digest: str) -> None:
        async def fetch() -> None:
            sought = wanted(self._site.rows, digest, self._largest)
            named = any(namings(self._site.rows, digest))
            if named and not sought.holders:  # waiting would not bring it
                words = f"every organization whose node may have held {digest} left the consortium"
                raise Failed("input", words)
            await self._site.blobs.ensure(sought)

        if not await self._sound(digest):
            try:
                await patiently(fetch, self._tell)
            except Refused as error:
                raise Failed("rights", str(error)) from error

    async def _sound(self, digest: str) -> bool:
        """Whether a blob is here, with the bytes that it had: a task on others would state what is
        not so. What is damaged is set aside and fetched again."""
        vault = self._site.vault
        size = vault.size(digest)
        if size is None:
            return False
        quick = size <= QUICK_BYTES
        sound = vault.sound(digest) if quick else await asyncio.to_thread(vault.sound, digest)
        if not sound:
            logger("worker").error("blob damaged, set aside", task=self._key, blob=digest)
        return sound

    # -- after it

    async def run(self) -> Mapping[str, Any]:
        """The `task.done` operation of the attempt. Raises Failed."""
        started = self._site.clock.wall_ms(), self._site.clock.monotonic_ms()
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            earlier = await self._run_steps()
            return await self._collect(started, earlier)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    async def _run_steps(self) -> Mapping[str, Path]:
        earlier: dict[str, Path] = {}
        for step in self._steps:
            result = await self._kept(step) or await self._run_fresh(step, earlier)
            earlier |= result.outputs
        return earlier

    async def _kept(self, step: Step) -> StepResult | None:
        """What an earlier task's features step gave, where this one would do the same."""
        if step.kind is not Kind.FEATURES:
            return None
        find = partial(self._features.find, self._made_from(step), content=self._certifiable)
        result = await asyncio.to_thread(find)
        if result is not None:
            self._ended(step, result)
        return result

    async def _run_fresh(self, step: Step, earlier: Mapping[str, Path]) -> StepResult:
        run = partial(self._run_step, step, earlier)
        result = await patiently(run, self._tell)
        if result.killed:
            # Whoever did it, this machine may have: code that does it to itself does it again.
            logger("worker").warning("step was killed, runs once more", task=self._key)
            result = await patiently(run, self._tell)
        self._ended(step, result)
        if result.reason is Reason.CANCELED:
            raise asyncio.CancelledError
        if result.reason is not None:
            raise Failed(result.reason.value, result.detail, log=self._log())
        if step.kind is Kind.FEATURES:
            result = await asyncio.to_thread(self._features.keep, self._made_from(step), result)
        return result

    def _ended(self, step: Step, result: StepResult) -> None:
        self._ran.append(step)
        self._results.append(result)

    async def _run_step(self, step: Step, earlier: Mapping[str, Path]) -> StepResult:
        collect = self._scratch / step.name
        shutil.rmtree(collect, ignore_errors=True)
        collect.mkdir(parents=True)
        filled = self._site.stage.fill(self._task, step, earlier)
        runtime = self._site.runtime
        environment = self._environment_of(step.environment)
        spec = StepSpec(step, collect, filled.mounts, filled.files, environment)
        adopted = await self._site.leftovers.adopt(self._key, self._attempt, spec)
        handle = adopted or await self._stage(spec)
        try:
            if adopted is None:
                await runtime.start(handle)
            return await runtime.collect(handle)
        except asyncio.CancelledError:
            await runtime.cancel(handle)
            raise

    async def _stage(self, spec: StepSpec) -> Handle:
        handle = await self._site.runtime.stage(spec)
        run = Run(self._key, self._attempt, spec.step.name, handle.to_json())
        self._site.desk.runs.put(run)
        # A crash from here on leaves a handle that the restart adopts or ends.
        return handle

    # -- the end

    async def _collect(
        self, started: tuple[int, int], left: Mapping[str, Path]
    ) -> Mapping[str, Any]:
        try:
            return await self._say(started, left)
        except Failed:
            raise
        except (InvalidInput, FileNotFoundError) as error:
            reason = "score" if PERF in left else "wrong_shape"
            raise Failed(reason, str(error), log=self._log()) from error

    async def _say(self, started: tuple[int, int], left: Mapping[str, Path]) -> Mapping[str, Any]:
        wall_ms, monotonic_ms = started
        score = await asyncio.to_thread(self._score, left)
        outputs = {
            path.removeprefix("out/"): await self._keep_model(folder)
            for path, folder in left.items()
            if path.startswith("out/")
        }
        predictions = await asyncio.to_thread(self._keep_predictions, left)
        outputs |= predictions
        before = self._site.stage.local(self._task)
        folders = await asyncio.to_thread(self._folders, before, left)
        report, log = self._keep_report(left), self._log()
        evidence = outcome.Evidence(
            started_ms=wall_ms,
            # Not from the wall clock again: it may have been set meanwhile, even back.
            ended_ms=wall_ms + self._site.clock.monotonic_ms() - monotonic_ms,
            inputs=self._inputs(),
            input_bytes=sum(self._site.vault.size(each) or 0 for each in self._inputs().values()),
            labels=self._labels(),
            data_check=self._data_check(),
            set_digest=self._set_digest(),
            environments=self._environments(),
            **folders,
            predictions=await asyncio.to_thread(self._predictions_digest, left, predictions),
            log=self._site.vault.write(log, holder=self._key).digest if log else "",
            report=report["digest"] if report else "",
        )
        facts = outcome.receipt(self._ran, self._results, evidence)
        return outcome.done(self._key, self._attempt, outputs, facts, score, report)

    async def _keep_model(self, folder: Path) -> tuple[Blob, str]:
        """A model into the vault: its one file as it is, anything else as an archive."""
        listed = walk.listing(folder)
        form = format_of([item.path for item in listed])
        limit = self._steps[-1].limits.output_bytes
        vault = self._site.vault
        if form == "archive" and not _unpackable(listed):
            words = f"a model of several files: at most {ArchiveBounds()}, or one model.h5"
            raise Failed("too_large", words, found=f"{len(listed)} files", log=self._log())

        def keep() -> Blob:
            if form == "archive":
                return vault.write(pack(folder), holder=self._key)
            return vault.adopt(folder / listed[0].path, max_bytes=limit, holder=self._key)

        return await patiently(partial(asyncio.to_thread, keep), self._tell), form

    def _keep_report(self, left: Mapping[str, Path]) -> dict[str, Any] | None:
        if REPORT not in left:
            return None
        data = left[REPORT].read_bytes()
        blob, count = self._site.vault.write(data, holder=self._key), read_count(data)
        facts: dict[str, Any] = {"digest": blob.digest, "size": blob.size}
        return {**facts, "count": count} if count is not None and self._may_count() else facts

    def _may_count(self) -> bool:
        """A count on the ledger is read by all: only where the data's owner granted that."""
        data = self._task.get("data")
        if data is None:
            return True
        return (
            Rights(self._site.rows).dataset(data["dataset"], "report", self._task["plan"]) is None
        )

    def _score(self, left: Mapping[str, Path]) -> dict[str, Any] | None:
        if PERF not in left:
            return None
        score = read_score(left[PERF].read_bytes())
        if score.value is None:
            raise Failed("score", "the score is no finite number", log=self._log())
        return score.as_operation()

    def _folders(self, before: Path | None, left: Mapping[str, Path]) -> dict[str, str]:
        """Digests of the local folder before and after; what is left waits for finality."""
        digests: dict[str, str] = {}
        if before is not None:
            digests["local_in"] = walk.digest_of(before)
        after = left.get("local")
        if after is not None and any(after.iterdir()):
            digests["local_out"] = self._site.folders.keep(
                self._task["plan"], self._key, self._attempt, after
            )
        return digests

    def _keep_predictions(self, left: Mapping[str, Path]) -> dict[str, tuple[Blob, str]]:
        """What a predicttuple predicted, as an archive; who may have it, rule P6 says."""
        if self._task["kind"] != "predict":
            return {}
        blob = self._site.vault.write(pack(left["pred"]), holder=self._key)
        return {"predictions": (blob, "archive")}

    def _predictions_digest(
        self, left: Mapping[str, Path], kept: Mapping[str, tuple[Blob, str]]
    ) -> str:
        """Of the blob where it is kept; else of the folder, for whoever runs the test again."""
        if kept:
            return kept["predictions"][0].digest
        return walk.digest_of(left["pred"]) if "pred" in left else ""

    def _log(self) -> bytes:
        """What the steps wrote, one after the other, within what may leave."""
        ran = zip(self._ran, self._results, strict=True)
        written = b"".join(_log_of(step, result) for step, result in ran if result.log)
        return written[: self._steps[0].limits.log_bytes]

    # -- facts

    @property
    def _largest(self) -> int:
        """Bytes of the largest blob that is taken in."""
        return max(self._site.allowance.output_bytes, ARCHIVE_BYTES)

    @property
    def _certifiable(self) -> bool:
        """Whether the score may stand on a board: then every byte of the data is hashed first."""
        if self._task["kind"] != "test" or not self._task.get("objective"):
            return False
        chosen = self._site.rows.get(f"sampleset/{self._task['data']['set']}")
        return chosen is not None and chosen["label"] == "test"

    def _digests(self) -> set[str]:
        folders = [folder for step in self._steps for folder in step.folders]
        found = {folder.digest for folder in folders if folder.digest}
        for key in {step.environment for step in self._steps if step.environment}:
            row = self._site.rows.get(f"environment/{key}")
            found |= set() if row is None else blobs_of(row)
        return found

    def _reports(self) -> set[str]:
        folders = [f for step in self._steps for f in step.folders if f.source is Source.MODEL]
        found = {report_of(self._site.rows, self._task, folder) for folder in folders}
        return {digest for digest in found if digest is not None}

    def _sets(self) -> set[str]:
        return {folder.set for step in self._steps for folder in step.folders if folder.set}

    def _inputs(self) -> dict[str, str]:
        return {
            folder.path.removeprefix("in/"): folder.digest
            for step in self._steps
            for folder in step.folders
            if folder.source is Source.MODEL
        }

    def _labels(self) -> str:
        """Predict was given no labels; how far that holds against hostile code, the grade says."""
        return "sealed" if self._task["kind"] == "test" else "none"

    def _data_check(self) -> str:
        if not self._sets():
            return "none"
        return "content" if self._certifiable else "metadata"

    def _set_digest(self) -> str:
        data = self._task.get("data")
        row = self._site.rows.get(f"sampleset/{data['set']}") if data else None
        return str((row or {}).get("digest", ""))

    def _environments(self) -> dict[str, str]:
        """Digests by step; a step in the node's own environment is not named."""
        rows = self._site.rows
        found = {s.name: rows.get(f"environment/{s.environment}") for s in self._steps}
        return {name: str(row["digest"]) for name, row in found.items() if row is not None}

    def _made_from(self, step: Step) -> Mapping[str, Any]:
        """All that exported features depend on, and how far they may be trusted."""
        return {
            "opener": [f.digest for f in step.folders if f.source is Source.ARCHIVE],
            "environment": step.environment,
            "set": self._task["data"]["set"],
            "selection": self._task["data"].get("selection", {}),
            "grade": self._site.runtime.grade,
            "strict": step.strict,
            "content": self._certifiable,
        }


def _log_of(step: Step, result: StepResult) -> bytes:
    cut = b"[%d bytes more]\n" % result.log_cut_bytes if result.log_cut_bytes else b""
    return b"== %s ==\n%s\n%s" % (step.name.encode(), result.log.rstrip(), cut)


def _unpackable(listed: Sequence[walk.Listed]) -> bool:
    """Whether a model of these files fits the bounds of an archive, where it is unpacked."""
    most = ArchiveBounds()
    return len(listed) <= most.files and sum(item.size for item in listed) <= most.total_bytes


def words(error: TilthError, log: bytes, limit: int) -> bytes:
    """The log of a failed attempt: what the steps wrote, then why it failed."""
    end = f"== failed ==\n{error}\n".encode()
    return log[: max(0, limit - len(end))] + end[:limit]
