"""Cluster: is it well, is it fast, and is there room."""

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
            "Records in",
            "Records taken into the logs of all sources, per second, mean of a minute.",
            "cps",
            Query("sum(drizzle:records_in:rate1m)"),
        ),
        number(
            "Batch latency, p99",
            "99 of 100 batches are done with the slowest stage of their job within this time after"
            " they were sealed.",
            "s",
            Query(f"max(drizzle:batch_latency_seconds:p99{OF_JOB})"),
            steps=((None, GREEN), (0.1, YELLOW), (1, RED)),
        ),
        number(
            "Frontier lag",
            "Age of the oldest batch that is due and not done, of the job that is furthest behind.",
            "s",
            Query(f"max(drizzle_frontier_lag_seconds{OF_JOB})"),
            steps=((None, GREEN), (1, YELLOW), (5, RED)),
        ),
        number(
            "Workers",
            "Workers whose lease holds and whom everybody reaches.",
            "none",
            Query('sum(drizzle_workers{state="alive"})'),
            steps=((None, RED), (1, GREEN)),
        ),
        number(
            "Utilisation",
            "Share of the workers' slots that is in use, mean of a minute. Above (N-1)/N the loss of"
            " a worker is too much.",
            "percentunit",
            Query("drizzle:utilisation:ratio"),
            most=1,
            steps=((None, GREEN), (0.5, YELLOW), (0.8, RED)),
        ),
        number(
            "Jobs running",
            "Jobs that are placed on workers and process their streams.",
            "none",
            Query('sum(drizzle_jobs{phase="running"})'),
        ),
        number(
            "Leaders",
            "Coordinators that hold the leader's lease: one, and for a moment none when the lead"
            " changes hands.",
            "none",
            Query("sum(drizzle_leading)"),
            steps=((None, RED), (1, GREEN), (2, RED)),
        ),
        number(
            "Alerts",
            "Alerts of ours that fire now; docs/operations.md says what to do about each.",
            "none",
            Query('count(ALERTS{alertname=~"Drizzle.*", alertstate="firing"}) or vector(0)'),
            steps=((None, GREEN), (1, RED)),
        ),
    ),
    height=4,
)

WORK = Row(
    "Work",
    (
        lines(
            "Records in, by stream",
            "Records taken into the logs of the sources, per second.",
            "cps",
            Query("drizzle:records_in:rate1m", "{{stream}}"),
        ),
        lines(
            "Frontier lag",
            "Age of the oldest batch that is due and not done. In good order it stays below a few"
            " batch intervals.",
            "s",
            Query(f"drizzle_frontier_lag_seconds{OF_JOB}", "{{job}}"),
        ),
        lines(
            "Batches behind",
            "Batches that are due and not done.",
            "none",
            Query(f"drizzle_frontier_lag_batches{OF_JOB}", "{{job}}"),
        ),
    ),
)

LATENCY = Row(
    "Batch latency, from sealed to done with a stage (the last stage: in the sink)",
    tuple(
        lines(
            f"{name} by stage",
            f"{share} of 100 batches are done with a stage within this time, over all workers of the stage.",
            "s",
            Query(f"drizzle:batch_latency_seconds:{name}{OF_JOB}", "{{job}} stage {{stage}}"),
        )
        for name, share in (("p50", 50), ("p95", 95), ("p99", 99))
    ),
)

WORKERS = Row(
    "Workers",
    (
        stacked(
            "Workers by state",
            "Alive: the lease holds. Suspected: somebody could not reach it, and its lease still holds."
            " Draining: it leaves in order, at the next boundary.",
            "none",
            Query("sum by (state) (drizzle_workers)", "{{state}}"),
            width=6,
        ),
        stacked(
            "Partitions per worker",
            "Partitions of all stages that each worker holds. The shares should be alike.",
            "none",
            Query(f"sum by (node) (drizzle_partitions{OF_JOB} {NAMED})", "{{node}}"),
            width=6,
        ),
        lines(
            "Utilisation and its limit",
            "Share of all slots that is in use. Above the limit, (N-1)/N, the others could not make"
            " up for a lost worker.",
            "percentunit",
            Query("drizzle:utilisation:ratio", "utilisation"),
            Query("drizzle:utilisation_limit:ratio", "limit"),
            most=1,
            width=6,
        ),
        lines(
            "Utilisation by worker",
            "Share of each worker's slots that is in use.",
            "percentunit",
            Query(
                f"sum by (node) (rate(drizzle_slot_seconds_total[{RANGE}]) {NAMED})"
                f" / sum by (node) (drizzle_slots {NAMED})",
                "{{node}}",
            ),
            width=6,
        ),
    ),
)

TASKS = Row(
    "Tasks and processes",
    (
        lines(
            "Task time, p99",
            "Time that 99 of 100 tasks compute within: one batch of one stage on one worker.",
            "s",
            Query(quantile(0.99, "drizzle_task_seconds", "job, stage"), "{{job}} stage {{stage}}"),
            width=6,
        ),
        lines(
            "Tasks that wait",
            "Launched tasks that do not run: for want of a block or input, or of a free slot."
            " Waiting for slots is overload.",
            "none",
            Query("sum by (for) (drizzle_tasks_waiting)", "for {{for}}"),
            width=6,
        ),
        lines(
            "CPU by service",
            "Cores that each process uses.",
            "none",
            Query(f"sum by (node) (rate(process_cpu_seconds_total[{RANGE}]) {NAMED})", "{{node}}"),
            width=6,
            decimals=2,
        ),
        lines(
            "Memory by service",
            "Resident memory of each process.",
            "bytes",
            Query(f"sum by (node) (process_resident_memory_bytes {NAMED})", "{{node}}"),
            width=6,
        ),
        lines(
            "Longest stall of the event loop",
            "How long each service's event loop stood still at worst in the last 30 s. Beyond its"
            " lease it is taken for dead.",
            "s",
            Query(f"max by (node) (drizzle_event_loop_lag_worst_seconds {NAMED})", "{{node}}"),
        ),
        lines(
            "Messages sent",
            "Messages of the protocol that services send each other, per second.",
            "cps",
            Query(f"sum by (kind) (rate(drizzle_messages_sent_total[{RANGE}]))", "{{kind}}"),
        ),
        steps(
            "Jobs by phase",
            "Waiting for members, running, stopping, stopped or failed.",
            "none",
            Query("sum by (phase) (drizzle_jobs)", "{{phase}}"),
        ),
    ),
)

BOARD = Board(
    "drizzle-cluster",
    "Drizzle: Cluster",
    "Whether the cluster is well, how fast it is and how much room it has.",
    (NOW, WORK, LATENCY, WORKERS, TASKS),
    (JOB,),
    EVENTS,
)
