"""Every metric of the product, in one room; their names are a contract with dashboards and alerts.

One class per kind of service, plus one for what every service has. Each is made
once per process on the process's own registry. Units stand in the names; labels
are few and bounded (`families`). `docs/metrics.md` is written from this file's
help texts, so they say what a number means to the person who watches it.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector

from drizzle_streams.telemetry.families import Readings, Sheet
from drizzle_streams.telemetry.reading import Count, Counts, WorkerReadings
from drizzle_streams.telemetry.tuning import TunerMetrics
from drizzle_streams.transport.base import Transport

LATENCY_BUCKETS_S = (
    *(0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""1 ms to 60 s; dense where the targets are (15 ms at the median, 50 ms at p99)."""

WORK_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""One task, one fsync, one turn of a loop."""

RECOVERY_BUCKETS_S = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)


class CoordinatorMetrics:
    """Groups, frontier, workers, checkpoints, recovery."""

    def __init__(self, registry: CollectorRegistry) -> None:
        sheet = self._sheet = Sheet(registry)
        self.frontier_batch = sheet.gauge(
            "drizzle_frontier_batch", "Highest batch that is done with all before it", "job"
        )
        self.frontier_lag_batches = sheet.gauge(
            "drizzle_frontier_lag_batches", "Batches sealed by the sources and not yet done", "job"
        )
        self.frontier_lag_seconds = sheet.gauge(
            "drizzle_frontier_lag_seconds", "Age of the oldest sealed batch that is not yet done", "job"
        )
        self.batch_interval_seconds = sheet.gauge(
            "drizzle_batch_interval_seconds", "Time from one batch to the next", "job"
        )
        self.batch_interval_target_seconds = sheet.gauge(
            "drizzle_batch_interval_target_seconds",
            "The interval at which batches take four fifths of it, where the job has it chosen",
            "job",
        )
        self.batch_processing_seconds = sheet.gauge(
            "drizzle_batch_processing_seconds",
            "What a batch costs its busiest worker, where the interval is chosen by it; else 0",
            "job",
        )
        self.jobs = sheet.gauge("drizzle_jobs", "Jobs by phase", "phase")
        self.group_size_batches = sheet.gauge(
            "drizzle_group_size_batches", "Batches per group, as last launched", "job"
        )
        self.overhead_ratio = sheet.gauge(
            "drizzle_overhead_ratio", "Coordination time over total time of the last groups", "job"
        )
        self.groups_launched = sheet.counter(
            "drizzle_groups_launched_total", "Groups of batches launched", "job"
        )
        self.groups_cut = sheet.counter(
            "drizzle_groups_cut_total", "Groups ended early because the cluster changed", "job"
        )
        self.replans = sheet.counter(
            "drizzle_replans_total", "Stages that are computed in another way from some group on", "job"
        )
        self.stage_partitions = sheet.gauge(
            "drizzle_stage_partitions", "Partitions of a stage, on all workers", "job", "stage"
        )
        self.partitions_resized = sheet.counter(
            "drizzle_partitions_resized_total", "Times the partitions of a stage were split or merged", "job"
        )
        self.launch_messages = sheet.counter(
            "drizzle_launch_messages_total", "Launch messages sent, one per worker and group", "job"
        )
        self.launch_bytes = sheet.counter(
            "drizzle_launch_bytes_total", "Bytes of launch messages sent", "job"
        )
        self.generation = sheet.gauge(
            "drizzle_generation", "The fence: raised at each recovery, older speakers are refused"
        ).of()
        self.workers = sheet.gauge("drizzle_workers", "Workers by state", "state")
        self.workers_joined = sheet.counter("drizzle_workers_joined_total", "Workers that joined").of()
        self.workers_left = sheet.counter(
            "drizzle_workers_left_total", "Workers that left in order, drained and not lost"
        ).of()
        self.workers_suspected = sheet.counter(
            "drizzle_workers_suspected_total", "Times a peer reported a worker unreachable"
        ).of()
        self.workers_lost = sheet.counter("drizzle_workers_lost_total", "Workers whose lease ended").of()
        self.workers_slow = sheet.gauge(
            "drizzle_workers_slow", "Workers that hold no partitions for now because they straggled"
        ).of()
        self.workers_relieved = sheet.counter(
            "drizzle_workers_relieved_total", "Times a worker lost its partitions because it straggled"
        ).of()
        self.recovery_seconds = sheet.histogram(
            "drizzle_recovery_seconds",
            "From the loss of a worker to the frontier passing where it was",
            "job",
            buckets=RECOVERY_BUCKETS_S,
        )
        self.recovering = sheet.gauge(
            "drizzle_recovering", "1 while what was lost is being rebuilt, else 0", "job"
        )
        self.speculations = sheet.counter(
            "drizzle_speculations_total", "Second copies of tasks started because the first straggled", "job"
        )
        self.speculations_won = sheet.counter(
            "drizzle_speculations_won_total", "Second copies of tasks that had the result first", "job"
        )
        self.speculations_wasted = sheet.counter(
            "drizzle_speculations_wasted_total", "Second copies of tasks whose first one came first", "job"
        )
        self.batches_replayed = sheet.counter(
            "drizzle_batches_replayed_total", "Batches computed again after a loss", "job"
        )
        self.checkpoint_age_seconds = sheet.gauge(
            "drizzle_checkpoint_age_seconds",
            "Time since the last committed checkpoint; before the first, since the coordinator knows the job",
            "job",
        )
        self.checkpoint_interval_seconds = sheet.gauge(
            "drizzle_checkpoint_interval_seconds", "Time from one checkpoint to the next, as planned", "job"
        )
        self.checkpoint_bytes = sheet.gauge(
            "drizzle_checkpoint_bytes", "Bytes written for the last checkpoint", "job"
        )
        self.checkpoint_seconds = sheet.histogram(
            "drizzle_checkpoint_seconds",
            "From asking for a checkpoint to its commit",
            "job",
            buckets=LATENCY_BUCKETS_S,
        )
        self.checkpoint_cost_seconds = sheet.gauge(
            "drizzle_checkpoint_cost_seconds",
            "What the slowest snapshot of a checkpoint takes, smoothed; the interval follows from it",
            "job",
        )
        self.checkpoint_optimum_seconds = sheet.gauge(
            "drizzle_checkpoint_optimum_seconds",
            "Young and Daly's interval from cost and losses measured, before its bounds",
            "job",
        )
        self.checkpoints_damaged = sheet.counter(
            "drizzle_checkpoints_damaged_total", "Checkpoints given up for the one before it", "job"
        )
        self.checkpoints = sheet.counter("drizzle_checkpoints_total", "Checkpoints committed", "job")
        self.tuner = TunerMetrics(sheet)

    def forget_job(self, job: str) -> None:
        """Drop every series of a job that has ended."""
        self._sheet.forget_job(job)
        self.tuner.forget_job(job)


class WorkerMetrics(WorkerReadings):
    """Batches, tasks, blocks, state, sinks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        sheet = self._sheet = Sheet(registry)
        self.batch_latency_seconds = sheet.histogram(
            "drizzle_batch_latency_seconds",
            "From the sealing of a batch to a stage's end with it here (last stage: in the sink); no replays",
            "job",
            "stage",
            buckets=LATENCY_BUCKETS_S,
        )
        self.task_seconds = sheet.histogram(
            "drizzle_task_seconds", "Time a task computed", "job", "stage", buckets=WORK_BUCKETS_S
        )
        self.sink_seconds = sheet.histogram(
            "drizzle_sink_seconds", "Time a sink took to write one batch", "job", buckets=WORK_BUCKETS_S
        )
        self.records_in = sheet.counter(
            "drizzle_records_in_total", "Records and rows taken by tasks", "job", "stage"
        )
        self.rows_out = sheet.counter(
            "drizzle_rows_out_total", "Rows given to the next stage or to the sink", "job", "stage"
        )
        self.shuffle_bytes = sheet.counter(
            "drizzle_shuffle_bytes_total", "Bytes of blocks made for other workers", "job", "stage"
        )
        self.late_records = sheet.counter(
            "drizzle_late_records_total", "Records behind the watermark, kept aside", "job"
        )
        self.dead_letters = sheet.counter(
            "drizzle_dead_letters_total", "Records that could not be used, kept with the reason", "job"
        )
        self.partitions = sheet.gauge("drizzle_partitions", "Partitions held here", "job", "stage")
        self.state_bytes = sheet.gauge("drizzle_state_bytes", "Size of the state held here", "job", "stage")
        self.state_keys = sheet.gauge("drizzle_state_keys", "Keys in the state held here", "job", "stage")
        self.snapshot_seconds = sheet.histogram(
            "drizzle_snapshot_seconds", "Time to write one snapshot", "job", buckets=LATENCY_BUCKETS_S
        )
        self.restore_seconds = sheet.histogram(
            "drizzle_restore_seconds",
            "Time to restore state of moved partitions from the snapshot store",
            "job",
            buckets=RECOVERY_BUCKETS_S,
        )
        self.snapshot_bytes = sheet.counter(
            "drizzle_snapshot_bytes_total", "Bytes of snapshots written", "job"
        )

    def forget_job(self, job: str) -> None:
        """Drop every series of a job that has ended."""
        self._sheet.forget_job(job)


class SourceMetrics:
    """Ingest, log, sealing, serving."""

    def __init__(self, registry: CollectorRegistry) -> None:
        sheet = self._sheet = Sheet(registry)
        self.appended_records = sheet.counter(
            "drizzle_appended_records_total", "Records taken into the log", "stream"
        )
        self.appended_bytes = sheet.counter(
            "drizzle_appended_bytes_total", "Bytes taken into the log", "stream"
        )
        self.append_seconds = sheet.histogram(
            "drizzle_append_seconds",
            "From a post's arrival until it is as durable as promised",
            "stream",
            buckets=LATENCY_BUCKETS_S,
        )
        self.posts_repeated = sheet.counter(
            "drizzle_posts_repeated_total",
            "Posts that a producer had sent before: answered, not taken",
            "stream",
        )
        self.posts_refused = sheet.counter(
            "drizzle_posts_refused_total",
            "Posts not taken, by the status answered (429: back-pressure)",
            "stream",
            "status",
        )
        self.batches_sealed = sheet.counter(
            "drizzle_batches_sealed_total", "Batches whose bounds are fixed and stored", "job"
        )
        self.backlog_records = sheet.gauge(
            "drizzle_backlog_records", "Records in the log that are in no sealed batch yet", "stream"
        )
        self.log_bytes = sheet.gauge("drizzle_log_bytes", "Size of the log on disk", "stream")
        self.log_bytes_max = sheet.gauge(
            "drizzle_log_bytes_max", "The log's budget; beyond it posts get 429", "stream"
        )

    def forget_job(self, job: str) -> None:
        """Drop every series of a job that has ended."""
        self._sheet.forget_job(job)


class RuntimeMetrics:
    """What every service has: messages, links, queues, its event loop, its process."""

    def __init__(self, registry: CollectorRegistry, *, service: str, node: str, version: str) -> None:
        sheet = Sheet(registry)
        sheet.gauge("drizzle_info", "Who this is", "service", "node", "version").of(
            service, node, version
        ).set(1)
        self.loop_lag_seconds = sheet.histogram(
            "drizzle_event_loop_lag_seconds",
            "How late the event loop came back to a timer",
            buckets=WORK_BUCKETS_S,
        ).of()
        self._readings = Readings(registry)
        ProcessCollector(registry=registry)

    def read_loop(self, worst_lag: Count) -> None:
        """The longest recent stall of the event loop."""
        self._readings.add(
            "drizzle_event_loop_lag_worst_seconds", "Longest recent stall of the event loop", worst_lag
        )

    def read_messages(self, sent: Counts, received: Counts, refused: Counts, resent: Count) -> None:
        """Messages by kind; refused ones by reason; what the outbox had to repeat."""
        add = self._readings.add
        add("drizzle_messages_sent_total", "Messages sent, by kind", sent, "kind")
        add("drizzle_messages_received_total", "Messages received, by kind", received, "kind")
        add("drizzle_messages_refused_total", "Messages refused, by reason", refused, "reason")
        add("drizzle_outbox_resent_total", "Messages repeated for want of an answer", resent)

    def read_queues(self, depths: Counts) -> None:
        """How full the service's named queues are, in their own units."""
        self._readings.add("drizzle_queue_depth", "Entries in a queue, by its name", depths, "queue")

    def read_transport(self, transport: Transport) -> None:
        """Everything a transport counts."""
        counters = transport.counters
        add = self._readings.add
        for name, text, read in (
            ("frames", "Frames", lambda: (counters.frames_sent, counters.frames_received)),
            (
                "messages",
                "Writes (frames that left together)",
                lambda: (counters.messages_sent, counters.messages_received),
            ),
            ("bytes", "Bytes", lambda: (counters.bytes_sent, counters.bytes_received)),
        ):
            add(f"drizzle_link_{name}_total", f"{text} over links", _both_ways(read), "direction")
        add(
            "drizzle_link_frames_dropped_total",
            "Frames not sent, by reason",
            lambda: counters.dropped,
            "reason",
        )
        add(
            "drizzle_doors_refused_total",
            "Connections and requests refused",
            lambda: counters.refused,
            "reason",
        )
        add("drizzle_link_dials_total", "Dials to peers", lambda: counters.dials)
        add("drizzle_link_dials_failed_total", "Dials to peers that failed", lambda: counters.dials_failed)
        add("drizzle_links_broken_total", "Links that broke", lambda: counters.links_broken)
        add("drizzle_fetches_total", "Bulk fetches answered", lambda: counters.fetches)
        add("drizzle_fetched_bytes_total", "Bytes of bulk fetches answered", lambda: counters.fetched_bytes)
        add("drizzle_peers", "Peers connected, being dialled or backing off", lambda: transport.peers)
        add("drizzle_link_queued_frames", "Frames that wait for peers", lambda: transport.queued_frames)
        add("drizzle_link_queued_bytes", "Bytes that wait for peers", lambda: transport.queued_bytes)


def _both_ways(read: Callable[[], tuple[float, float]]) -> Counts:
    return lambda: dict(zip(("sent", "received"), read(), strict=True))
