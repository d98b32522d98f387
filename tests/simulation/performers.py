"""What services do outside their machines, in the simulated world: in memory, in virtual time.

Everything that takes time is scheduled with a random duration and ends in exactly one event,
unless the node's life ends first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.offered import offered_batches
from drizzle_streams.core.untold import RUN_BATCHES_MAX
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, CohortId, NodeId, Offset, PartitionId
from drizzle_streams.model.job import overlapping
from drizzle_streams.model.replanning import StageSeen
from drizzle_streams.model.snapshot import SnapshotPart, SnapshotRef
from drizzle_streams.model.task import TaskError, TaskKey
from drizzle_streams.protocol import messages as msg
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.values import Sums, add, by_group, for_partitions, sum_records

if TYPE_CHECKING:
    from tests.simulation.world import Life, World

Block = dict[int, Sums]
"""Rows of a fragment by upstream partition."""


@dataclass(frozen=True)
class TaskRun:
    """A task that a worker began: for those who ask afterwards who computed what, when, and how often."""

    worker: NodeId
    key: TaskKey
    partitions: tuple[PartitionId, ...]
    began: float
    ends: float


@dataclass
class SimCohort:
    """State of a cohort: per partition its running sums, at one version."""

    version: int
    state: dict[int, Sums]
    stage: int
    of: int
    rows: dict[int, dict[int, Sums]] = field(default_factory=dict)
    chains: tuple[tuple[int, tuple[SnapshotPart, ...]], ...] = ()
    """Generation and parts of the newest two snapshots: the next is built on the older one, if it is of the
    same generation. A coordinator that is new may not have heard of it."""
    stored_at: float = 0.0
    """Snapshots of a cohort are stored one after the other, as in `worker.snapshots`."""


class SimWorker:
    """The performer of one worker life."""

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life
        self.cohorts: dict[int, SimCohort] = {}
        self.parted: dict[tuple[int, int, int], tuple[int, Sums]] = {}
        self.kept: dict[int, tuple[PartitionId, ...]] = {}
        self.departed = ""
        self.fragments: dict[act.Fragment, Block] = {}
        self.reading: dict[act.Fragment, Block | None] = {}
        """What the task that ends now had from the beginning."""
        self.blocks: dict[tuple[int, int], Block] = {}
        self.spec = world.job
        self.forgotten = 0
        self.pressed = False
        self.blocks_seen_max = 0

    def perform(self, action: act.Start) -> None:
        name = "_" + type(action).__name__
        getattr(self, name)(action)

    def _later(self, seconds: float, make) -> None:
        """Work for a run: what of it ends after the run was forgotten is told nobody."""
        begun = self.forgotten
        self.life.later(seconds, lambda: make() if begun == self.forgotten else None)

    # --- tells ----------------------------------------------------------------------------

    def _LearnPeer(self, action: act.LearnPeer) -> None:  # noqa: N802
        pass

    def _KeepPartitions(self, action: act.KeepPartitions) -> None:  # noqa: N802
        cohort = self.cohorts.get(action.cohort)
        if cohort is None:
            self.kept[action.cohort] = action.partitions  # it is being opened
        else:
            for partition in cohort.state.keys() - set(action.partitions):
                place = (cohort.stage, cohort.of, partition)
                self.parted[place] = (cohort.version, cohort.state[partition])
            cohort.state = {p: s for p, s in cohort.state.items() if p in action.partitions}
            cohort.chains = ()

    def _LayOut(self, action: act.LayOut) -> None:  # noqa: N802
        self.spec = action.spec

    def _MergeCohorts(self, action: act.MergeCohorts) -> None:  # noqa: N802
        cohort = self.cohorts.get(action.cohort)
        other = self.cohorts.pop(action.other, None)
        if cohort is None or other is None:
            return  # cohorts of a stateless stage have nothing to merge here
        if cohort.version != other.version or cohort.of != other.of:
            raise BrokenPromiseError(f"merge of versions {cohort.version} and {other.version}")
        cohort.state |= other.state
        cohort.chains = ()

    def _ReleaseFragments(self, action: act.ReleaseFragments) -> None:  # noqa: N802
        old = [f for f in self.fragments if f.downstream == action.downstream and f.batch <= action.through]
        for fragment in old:
            del self.fragments[fragment]

    def _DropBlocks(self, action: act.DropBlocks) -> None:  # noqa: N802
        for key in [k for k in self.blocks if k[1] <= action.through]:
            del self.blocks[key]
        self.parted = {key: kept for key, kept in self.parted.items() if kept[0] >= action.through}
        self._weigh()

    def _weigh(self) -> None:
        """Blocks of so many stages and batches are full."""
        self.blocks_seen_max = max(self.blocks_seen_max, len(self.blocks))
        pressed = len(self.blocks) >= self.world.blocks_max
        if pressed != self.pressed:
            self.pressed = pressed
            self.life.later(0.0, lambda: ev.MemoryPressed(pressed))

    def _ForgetJob(self, action: act.ForgetJob) -> None:  # noqa: N802
        self.cohorts, self.fragments, self.blocks, self.parted = {}, {}, {}, {}
        self.forgotten += 1

    def _Rejoin(self, action: act.Rejoin) -> None:  # noqa: N802
        self.world.rejoin(self.life)

    def _Depart(self, action: act.Depart) -> None:  # noqa: N802
        self.departed = action.reason
        self.world.crash(self.life)

    # --- work -----------------------------------------------------------------------------

    def _LoadProgram(self, action: act.LoadProgram) -> None:  # noqa: N802
        self.spec = action.spec
        self._later(self.world.uniform(0.001, 0.05), lambda: ev.ProgramLoaded(action.spec.job))

    def _of(self, stage: int) -> int:
        """How many partitions a stage has, as far as this worker knows."""
        return self.spec.stages[stage].partitions

    def _OpenCohort(self, action: act.OpenCohort) -> None:  # noqa: N802
        stage, of = int(action.stage), self._of(action.stage)

        def open_() -> ev.Event:
            end = restore()
            if action.cohort in self.cohorts and action.cohort in self.kept:
                self._KeepPartitions(
                    act.KeepPartitions(action.job, action.stage, action.cohort, self.kept.pop(action.cohort))
                )
            return end

        def restore() -> ev.Event:
            found = self._from_formers(action, of)
            if len(found) == len(action.partitions):
                self.world.handed_over += len(found)
                self.cohorts[action.cohort] = SimCohort(int(action.batch), found, stage, of)
                return ev.CohortOpened(action.job, action.stage, action.cohort)
            stored: dict[tuple[int, int], Sums] = {}
            for ref in action.snapshots:
                if ref.batch != action.batch:
                    raise BrokenPromiseError(f"cohort at {action.batch} restored from {ref.batch}")
                for part in ref.parts:
                    held = self.world.snapshots.get(part.key)
                    if held is None:
                        place = (action.job, action.stage, action.cohort, action.batch)
                        return ev.CohortDamaged(*place, f"{part.key} is missing or damaged")
                    mine = {(ref.of, p): s for p, s in held.items() if p in ref.partitions}  # type: ignore[attr-defined]
                    stored |= mine
            rest = sum_records(pair for sums in stored.values() for pair in sums.items())
            state = {int(p): for_partitions(stage, rest, [p], of) for p in action.partitions} | found
            self.cohorts[action.cohort] = SimCohort(int(action.batch), state, stage, of)
            return ev.CohortOpened(action.job, action.stage, action.cohort)

        self._later(self.world.uniform(0.001, 0.05), open_)

    def _from_formers(self, action: act.OpenCohort, of: int) -> dict[int, Sums]:
        """State as former owners still have it; a question that is lost is answered by the snapshots."""
        stage, held, before = int(action.stage), dict[int, Sums](), of
        for former in action.formers:
            before = former.of or of
            other = self.world.reach(self.life.id, former.worker)
            if other is not None and self.world.chance(0.9):
                held |= other.performer.state_at(stage, set(former.partitions), int(action.batch), before)
        found: dict[int, Sums] = {}
        for partition in action.partitions:
            olds = overlapping(partition, of, before, self.spec.key_groups)
            if all(old in held for old in olds):
                rows = sum_records(pair for old in olds for pair in held[old].items())
                found[int(partition)] = for_partitions(stage, rows, [partition], of)
        return found

    def state_at(self, stage: int, partitions: set[int], batch: int, of: int) -> dict[int, Sums]:
        """What of the wanted partitions' state at that batch is here: held still, or kept aside."""
        held = {
            (stage, c.of, p): (c.version, s)
            for c in self.cohorts.values()
            if c.stage == stage
            for p, s in c.state.items()
        }
        kept = self.parted | held
        found = {p: kept[(stage, of, p)] for p in partitions if (stage, of, p) in kept}
        return {p: dict(sums) for p, (version, sums) in found.items() if version == batch}

    def _RunTask(self, action: act.RunTask) -> None:  # noqa: N802
        """Its end is told in any case, under no cohort's number for a forgotten run: the slot is free."""
        begun = self.forgotten
        # As a real worker's, a task has its input from the beginning: what is released meanwhile is no loss.
        input_of = {p.fragment: self.fragments.get(p.fragment) for p in action.pieces}

        def run() -> ev.Event:
            key = action.key
            self.reading = input_of
            if begun != self.forgotten:
                return ev.TaskFinished(replace(key, cohort=CohortId(0)))
            if key.cohort < 0 and any(p.fragment not in self.fragments for p in action.pieces):
                self.world.copies_lost += 1
                lost = TaskError("LostInput", "let go before its turn", "", key.stage, key.batch, ())
                return ev.TaskCrashed(key, lost)  # a copy's; the real worker says so, too
            if key.stage == 0:
                self._map(action)
            elif self.spec.stages[key.stage].stateful:
                self._reduce(action)
            else:
                self._join(action)
            self._weigh()
            return ev.TaskFinished(key, self._seen(action))

        self._agree(action)
        seconds = self.world.task_seconds(self.life, action.key)
        ends = self.world.now + seconds
        self.world.tasks.append(TaskRun(self.life.id, action.key, action.partitions, self.world.now, ends))
        self.life.later(seconds, run)

    def _agree(self, action: act.RunTask) -> None:
        """All workers run a batch of a stage under the same choice, and replays under the first one's.

        A straggler's copy may begin before the launch that says how has come here: rows are the same.
        """
        if action.key.cohort < 0:
            return
        place = (action.key.job, action.key.stage, action.key.batch)
        first = self.world.choices.setdefault(place, action.choice)
        if first != action.choice:
            raise BrokenPromiseError(f"{place} ran under {first} and under {action.choice}")

    def _seen(self, action: act.RunTask) -> StageSeen:
        """Figures that have the plan change again and again: each way to run looks worse than the other."""
        if action.key.stage == 0:
            partial = action.choice is None or action.choice.partial
            return StageSeen(action.key.stage, 1, partial, 10_000, 10_000)
        return StageSeen(action.key.stage, 1, True, 10_000, 5_000, 10_000, 1_000)

    def _map(self, action: act.RunTask) -> None:
        held = self.blocks.setdefault((0, action.key.batch), {})
        for partition, sums in self._collect(action).items():
            held[partition] = sums

    def _join(self, action: act.RunTask) -> None:
        news = sum_records(pair for sums in self._collect(action).values() for pair in sums.items())
        held = self.blocks.setdefault((int(action.key.stage), int(action.key.batch)), {})
        for partition in action.partitions:
            rows = for_partitions(int(action.key.stage), news, [partition], self._of(action.key.stage))
            held[partition] = by_group(rows)

    def _reduce(self, action: act.RunTask) -> None:
        cohort = self.cohorts[action.key.cohort]
        if cohort.version != action.key.batch - 1:
            raise BrokenPromiseError(f"batch {action.key.batch} on state of {cohort.version}")
        stage, batch = int(action.key.stage), int(action.key.batch)
        news = sum_records(pair for sums in self._collect(action).values() for pair in sums.items())
        for partition in cohort.state:
            mine = for_partitions(stage, news, [partition], cohort.of)
            cohort.state[partition] = add(cohort.state[partition], mine)
            if stage == 1:
                self.blocks.setdefault((1, batch), {})[partition] = by_group(mine)
        if stage == 2:
            cohort.rows[batch] = {p: dict(s) for p, s in cohort.state.items()}
        cohort.version = batch

    def _collect(self, action: act.RunTask) -> Block:
        """The rows that the pieces name, by upstream partition; each taken once."""
        stage = int(action.key.stage)
        found: Block = {}
        for piece in action.pieces:
            data = self._data(piece.fragment)
            for partition in piece.partitions:
                if partition not in data:
                    raise BrokenPromiseError(
                        f"{piece.fragment} lacks partition {partition}: its input is gone"
                    )
                rows = data[partition]
                if stage > 0:
                    rows = for_partitions(stage, rows, piece.wanted, self._of(stage))
                found[partition] = add(found.get(partition, {}), rows)
        return found

    def _data(self, fragment: act.Fragment) -> Block:
        if fragment.sender != self.life.id:
            read = self.reading.get(fragment)
            return self.fragments[fragment] if read is None else read
        block = self.blocks.get((int(fragment.stage), int(fragment.batch)))
        if block is None:
            raise BrokenPromiseError(f"input is gone: there is no block for {fragment}")
        return block

    def _WriteOutput(self, action: act.WriteOutput) -> None:  # noqa: N802
        cohort = self.cohorts[action.cohort]
        rows = {b: cohort.rows.pop(b) for b in range(action.first, action.last + 1)}

        def write() -> ev.Event:
            for batch, parts in sorted(rows.items()):
                for partition, sums in parts.items():
                    self.world.sink.write(batch, partition, cohort.of, sums, self.world.now)
            return ev.OutputWritten(action.job, action.stage, action.cohort, action.last)

        self._later(self.world.uniform(0.0005, self.world.sink_seconds_max), write)

    def _TakeSnapshot(self, action: act.TakeSnapshot) -> None:  # noqa: N802
        cohort = self.cohorts[action.cohort]
        if cohort.version != action.batch:
            raise BrokenPromiseError(f"snapshot of batch {action.batch} taken at {cohort.version}")
        state = {p: dict(s) for p, s in cohort.state.items()}
        job = self.life.machine.role.jobs[action.job]
        run, generation = job.spec.run, job.generation
        name = f"{run}/{action.stage}/{action.batch}/{generation}/{self.life.id}/{action.cohort}"

        def take() -> ev.Event:
            built_on = cohort.chains[0] if len(cohort.chains) == 2 else (generation, ())
            chain = built_on[1][-2:] if built_on[0] == generation else ()
            part = SnapshotPart(name, 1, 0)
            if not self.world.snapshots.put(run, generation, name, state):
                return ev.SnapshotFailed(action.job, action.stage, action.cohort, action.batch, "fenced")
            parts = (*chain, part)
            if tuple(state) == tuple(cohort.state):
                cohort.chains = (*cohort.chains, (generation, parts))[-2:]
            held = tuple(PartitionId(p) for p in sorted(state))
            ref = SnapshotRef(action.stage, held, action.batch, parts, cohort.of)
            return ev.SnapshotTaken(action.job, action.stage, action.cohort, ref, seconds)

        seconds = self.world.uniform(0.001, 0.1)
        cohort.stored_at = max(self.world.now, cohort.stored_at) + seconds
        self._later(cohort.stored_at - self.world.now, take)

    def _FetchBlocks(self, action: act.FetchBlocks) -> None:  # noqa: N802
        def fetch() -> ev.Event | None:
            other = self.world.reach(self.life.id, action.sender)
            if other is None and self.world.is_stopped(action.sender):
                self._later(0.01, fetch)  # its kernel keeps the connection: it answers when it goes on
                return None
            if other is None:
                return ev.FetchFailed(action, "unreachable")
            present: list[tuple[BatchId, float]] = []
            for batch in map(BatchId, range(action.first, action.last + 1)):
                block = other.performer.block(action, batch, self._of(action.downstream))
                if block is not None:
                    fragment = act.Fragment(
                        action.job,
                        action.downstream,
                        action.stage,
                        batch,
                        NodeId(action.sender),
                        action.partitions,
                        action.wanted,
                    )
                    self.fragments[fragment] = block
                    self.world.pulled.append((self.world.now, action, batch))
                    present.append((batch, 0.0))
            return ev.BlocksFetched(action, tuple(present))

        self._later(self.world.uniform(0.001, 0.03), fetch)

    def block(self, wanted: act.FetchBlocks | msg.BlocksReady, batch: int, of: int) -> Block | None:
        """What this worker holds of a batch for somebody else who knows of so many partitions, or None."""
        held = self.blocks.get((int(wanted.stage), batch))
        if held is None or of != self._of(wanted.downstream) or any(p not in held for p in wanted.partitions):
            return None
        stage = int(wanted.downstream)
        return {int(p): for_partitions(stage, held[p], wanted.wanted, of) for p in wanted.partitions}

    def _FetchInput(self, action: act.FetchInput) -> None:  # noqa: N802
        def fetch() -> ev.Event:
            if self.world.reach(self.life.id, action.source) is None:
                return ev.InputFetchFailed(action, "unreachable")
            block = self.world.input_of(action.bounds)
            if block is None:
                return ev.InputFetchFailed(action, "trimmed")
            self.fragments[action.fragment] = block
            return ev.InputFetched(action)

        self._later(self.world.uniform(0.001, 0.03), fetch)

    # --- payloads -------------------------------------------------------------------------

    def attach(self, message: msg.Message) -> object | None:
        if not isinstance(message, msg.BlocksReady):
            return None
        of, batches = self._of(message.downstream), range(message.first, message.last + 1)
        if len(batches) > RUN_BATCHES_MAX or not self.world.chance(0.7):
            return None
        found = [self.block(message, batch, of) for batch in batches]
        return None if None in found else found

    def absorb(self, sender: NodeId, message: msg.Message, payload: object) -> bool:
        if isinstance(message, msg.Offer):
            for one, block in zip(offered_batches(message), payload, strict=True):  # type: ignore[arg-type]
                self.fragments[one.fragment] = block
            return True
        if not isinstance(message, msg.BlocksReady):
            return False
        for batch, block in enumerate(payload, message.first):  # type: ignore[arg-type]
            place = (message.job, message.downstream, message.stage, BatchId(batch), sender)
            self.fragments[act.Fragment(*place, message.partitions, message.wanted)] = block
        return True


class SimSource:
    """The performer of one source life; its disk outlives it."""

    def __init__(self, world: World, life: Life) -> None:
        self.world, self.life = world, life
        self.disk = world.disks[life.id]
        self.local: dict[int, int] = {}
        self.files = False

    def perform(self, action: act.Start) -> None:
        match action:
            case act.OpenStream(partitions=partitions, chunks=chunks):
                self.local = {int(p): i for i, p in enumerate(partitions)}
                self.files = chunks is not None
            case act.SealBatches():
                self.life.later(self.world.uniform(0.0005, 0.005), lambda: self._seal(action))
            case act.TrimInput(through=through, before=before):
                for partition, end in before:
                    local = self.local[partition]
                    if not self.files:  # those are their owner's to remove
                        self.disk.starts[local] = max(self.disk.starts[local], end)
                for stored in self.disk.bounds.values():
                    for batch in [b for b in stored if b <= through]:
                        del stored[batch]
            case act.ReleaseInput():
                self.disk.bounds.clear()
                self.local = {}
            case _:
                pass

    def _seal(self, action: act.SealBatches) -> ev.Event:
        if not self.local:  # the run was released meanwhile
            return ev.SealFailed(action.job, action.stage, action.first, "released")
        starts = {
            partition: Offset(self.disk.starts[self.local[partition]]) if first is None else first
            for partition, first in action.firsts
        }
        self.world.learn_layout()
        sealed: list[Bounds] = []
        for batch in range(action.first, action.last + 1):
            bounds = [self._bounds(BatchId(batch), p, starts, action.records_max) for p in starts]
            self.world.history.fix(bounds)
            self.disk.bounds.setdefault(action.job, {})[BatchId(batch)] = tuple(bounds)
            sealed += bounds
        ended = self.files and all(
            start > len(self.disk.logs[self.local[partition]]) for partition, start in starts.items()
        )
        place = (action.job, action.stage, action.first, action.last)
        return ev.BatchesSealed(*place, tuple(sealed), 0, ended)

    def _bounds(
        self,
        batch: BatchId,
        partition: PartitionId,
        starts: dict[PartitionId, Offset],
        records_max: int,
    ) -> Bounds:
        start, there = starts[partition], len(self.disk.logs[self.local[partition]])
        # Of files a batch has one chunk of each partition; behind the last one lies the end.
        end = min(there + 1, start + 1) if self.files else min(there, start + records_max)
        starts[partition] = Offset(max(start, end))
        return Bounds(batch, partition, Offset(start), starts[partition])

    def attach(self, message: msg.Message) -> object | None:
        if isinstance(message, msg.Offer) and self.world.chance(0.7):
            found = [self.world.input_of(one.bounds) for one in offered_batches(message)]
            return None if None in found else found
        return None

    def absorb(self, sender: NodeId, message: msg.Message, payload: object) -> bool:
        return False


class SimCoordinator:
    """The performer of one coordinator life."""

    def __init__(self, world: World, life: Life, generation: int) -> None:
        self.world, self.life, self.generation = world, life, generation

    def perform(self, action: act.Start) -> None:
        match action:
            case act.RaiseGeneration():
                if self.world.raising_s:
                    self.life.later(self.world.raising_s, self._raised)
                else:
                    self.life.post(self._raised())
            case act.FenceSnapshots(job=job):
                spec = self.life.machine.role.jobs[job].spec
                self.world.snapshots.fence[spec.run] = self.generation
            case act.DeleteSnapshots(keys=keys):
                self.world.snapshots.delete(keys)
            case act.ForgetProgram(job=job):
                self.world.snapshots.clear(self.life.machine.role.jobs[job].spec.run)
            case _:
                pass

    def _raised(self) -> ev.Event:
        self.generation = self.world.raise_generation()
        return ev.GenerationRaised(self.generation)

    def attach(self, message: msg.Message) -> object | None:
        return None

    def absorb(self, sender: NodeId, message: msg.Message, payload: object) -> bool:
        return False
