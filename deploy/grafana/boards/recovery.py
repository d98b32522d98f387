"""Recovery: what was lost, how it was rebuilt, and what there is to rebuild from."""

from __future__ import annotations

from deploy.grafana.boards.shared import EVENTS, JOB, NAMED, OF_JOB, quantile
from deploy.grafana.panels import (
    GREEN,
    RANGE,
    RED,
    YELLOW,
    Board,
    Query,
    Row,
    lines,
    number,
    stacked,
    steps,
)

NOW = Row(
    "Now",
    (
        number(
            "Generation",
            "The number of the placement in force. It is raised at each recovery, rebalance and"
            " change of leader.",
            "none",
            Query("max(drizzle_generation)"),
            width=4,
        ),
        number(
            "Suspected",
            "Workers that somebody could not reach and whose lease still holds.",
            "none",
            Query('sum(drizzle_workers{state="suspected"})'),
            width=4,
            steps=((None, GREEN), (1, YELLOW)),
        ),
        number(
            "Lost",
            "Workers declared lost since the coordinator leads.",
            "none",
            Query("sum(drizzle_workers_lost_total)"),
            width=4,
        ),
        number(
            "Recovering",
            "Jobs of which something is being rebuilt at this moment.",
            "none",
            Query(f"sum(drizzle_recovering{OF_JOB})"),
            width=4,
            steps=((None, GREEN), (1, RED)),
        ),
        number(
            "Checkpoint age",
            "Time since the last committed checkpoint, of the job whose one is oldest: what a"
            " recovery would replay.",
            "s",
            Query(f"max(drizzle_checkpoint_age_seconds{OF_JOB})"),
            width=4,
        ),
        number(
            "Replayed",
            "Batches computed again after losses since the coordinator leads.",
            "none",
            Query(f"sum(drizzle_batches_replayed_total{OF_JOB})"),
            width=4,
        ),
    ),
    height=4,
)

LOSSES = Row(
    "Losses",
    (
        steps(
            "Generation",
            "The fence: whoever speaks of an older one is refused.",
            "none",
            Query("max(drizzle_generation)", "generation"),
        ),
        steps(
            "Suspected and lost",
            "Reports of an unreachable worker (evidence), and leases that ended (the verdict), since"
            " the coordinator leads.",
            "none",
            Query("sum(drizzle_workers_suspected_total)", "suspected"),
            Query("sum(drizzle_workers_lost_total)", "lost"),
        ),
        steps(
            "Joined and left in order",
            "Workers that joined, and that left after draining, since the coordinator leads.",
            "none",
            Query("sum(drizzle_workers_joined_total)", "joined"),
            Query("sum(drizzle_workers_left_total)", "left"),
        ),
    ),
    height=7,
)

RECOVERIES = Row(
    "Recoveries",
    (
        lines(
            "Recovery time",
            "From the loss of a worker until the frontier has passed where it was: p50 and p99 of 10"
            " minutes.",
            "s",
            Query(
                quantile(0.5, "drizzle_recovery_seconds", "job", span="10m"),
                "{{job}} p50",
            ),
            Query(
                quantile(0.99, "drizzle_recovery_seconds", "job", span="10m"),
                "{{job}} p99",
            ),
        ),
        steps(
            "Recovery under way",
            "1 while what was lost is being rebuilt. The other partitions go on meanwhile.",
            "none",
            Query(f"drizzle_recovering{OF_JOB}", "{{job}}"),
            most=1,
        ),
        steps(
            "Batches replayed",
            "Batches computed again after losses, since the coordinator leads.",
            "none",
            Query(f"sum by (job) (drizzle_batches_replayed_total{OF_JOB})", "{{job}}"),
        ),
        steps(
            "Speculation",
            "Second copies of tasks since the coordinator leads, because the first one straggled; how many"
            " of them had the result first; workers that hold no partitions for now because they straggled.",
            "none",
            Query(f"sum by (job) (drizzle_speculations_total{OF_JOB})", "{{job}}: copies"),
            Query(f"sum by (job) (drizzle_speculations_won_total{OF_JOB})", "{{job}}: won"),
            Query(f"sum by (job) (drizzle_speculations_wasted_total{OF_JOB})", "{{job}}: in vain"),
            Query("max(drizzle_workers_slow)", "slow workers"),
        ),
        lines(
            "Messages refused",
            "Messages that services did not take, per second, by reason: older generations, misfits,"
            " garbage, full queues.",
            "cps",
            Query(f"sum by (reason) (rate(drizzle_messages_refused_total[{RANGE}]))", "{{reason}}"),
        ),
        lines(
            "Links broken, messages repeated",
            "Per second. Links break when a peer goes; messages are repeated for want of an acknowledgement.",
            "cps",
            Query(f"sum(rate(drizzle_links_broken_total[{RANGE}]))", "links broken"),
            Query(f"sum(rate(drizzle_outbox_resent_total[{RANGE}]))", "messages repeated"),
        ),
    ),
    height=7,
)

CHECKPOINTS = Row(
    "Checkpoints",
    (
        lines(
            "Checkpoint age",
            "Time since the last committed checkpoint, and the time between checkpoints as planned.",
            "s",
            Query(f"drizzle_checkpoint_age_seconds{OF_JOB}", "{{job}} age"),
            Query(f"drizzle_checkpoint_interval_seconds{OF_JOB}", "{{job}} planned"),
        ),
        lines(
            "Checkpoint size",
            "Bytes of all parts that the last checkpoint consists of.",
            "bytes",
            Query(f"drizzle_checkpoint_bytes{OF_JOB}", "{{job}}"),
        ),
        lines(
            "Time to commit",
            "From the moment a checkpoint's batch was due until its commit, p50 and p99.",
            "s",
            Query(quantile(0.5, "drizzle_checkpoint_seconds", "job"), "{{job}} p50"),
            Query(quantile(0.99, "drizzle_checkpoint_seconds", "job"), "{{job}} p99"),
        ),
        lines(
            "Checkpoints committed",
            "Checkpoints committed per second; each makes everything older needless.",
            "cps",
            Query(f"sum by (job) (rate(drizzle_checkpoints_total{OF_JOB}[{RANGE}]))", "{{job}}"),
            decimals=2,
        ),
        lines(
            "Snapshots written",
            "Bytes of snapshots that all workers write, per second.",
            "Bps",
            Query(f"sum by (job) (rate(drizzle_snapshot_bytes_total{OF_JOB}[{RANGE}]))", "{{job}}"),
        ),
        stacked(
            "Blocks held",
            "Bytes of shuffle output that each worker keeps for replay until a checkpoint makes them"
            " needless.",
            "bytes",
            Query(f"sum by (node) (drizzle_blocks_held_bytes {NAMED})", "{{node}}"),
        ),
    ),
    height=7,
)

BOARD = Board(
    "drizzle-recovery",
    "Drizzle: Recovery",
    "What was lost, how it was rebuilt, and what there is to rebuild from.",
    (NOW, LOSSES, RECOVERIES, CHECKPOINTS),
    (JOB,),
    EVENTS,
)
