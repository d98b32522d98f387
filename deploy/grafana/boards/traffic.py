"""Sources and sinks: what comes in, what is put aside, what goes out."""

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
    Variable,
    lines,
    stacked,
    steps,
)

STREAM = Variable("stream", "Stream", "drizzle_appended_records_total")
OF_STREAM = '{stream=~"$stream"}'

COMING_IN = Row(
    "Sources: what comes in",
    (
        stacked(
            "Records taken",
            "Records taken into the log, per second and source.",
            "cps",
            Query(
                f"sum by (stream, node) (rate(drizzle_appended_records_total{OF_STREAM}[{RANGE}]) {NAMED})",
                "{{stream}} at {{node}}",
            ),
        ),
        lines(
            "Bytes taken",
            "Bytes taken into the logs, per second.",
            "Bps",
            Query(f"sum by (stream) (rate(drizzle_appended_bytes_total{OF_STREAM}[{RANGE}]))", "{{stream}}"),
        ),
        lines(
            "Time to append",
            "From a post's arrival until its records are as durable as the source promises, p50 and p99.",
            "s",
            Query(quantile(0.5, "drizzle_append_seconds", "stream", OF_STREAM), "{{stream}} p50"),
            Query(quantile(0.99, "drizzle_append_seconds", "stream", OF_STREAM), "{{stream}} p99"),
        ),
        lines(
            "Posts refused",
            "Posts not taken, per second, by the status answered. 429 is back-pressure: the producer"
            " must wait.",
            "cps",
            Query(
                f"sum by (stream, status) (rate(drizzle_posts_refused_total{OF_STREAM}[{RANGE}]))",
                "{{stream}} {{status}}",
            ),
            width=12,
        ),
        lines(
            "Posts repeated",
            "Posts, per second, that a producer had sent before: answered like the first time and"
            " not taken again.",
            "cps",
            Query(f"sum by (stream) (rate(drizzle_posts_repeated_total{OF_STREAM}[{RANGE}]))", "{{stream}}"),
            width=12,
        ),
    ),
    height=7,
)

WAITING = Row(
    "Sources: what waits",
    (
        lines(
            "Backlog",
            "Records in the logs that are in no sealed batch yet. In good order: what came since the"
            " last batch.",
            "none",
            Query(f"sum by (stream) (drizzle_backlog_records{OF_STREAM})", "{{stream}}"),
            width=6,
        ),
        lines(
            "Backlog in time",
            "How long it takes, at the rate records come, until as many have come as are waiting.",
            "s",
            Query(f"drizzle:backlog:seconds{OF_STREAM}", "{{stream}}"),
            width=6,
            steps=((None, GREEN), (10, RED)),
        ),
        lines(
            "Log on disk",
            "How full each source's log of a stream is. At 100 % posts are refused with 429 until a"
            " checkpoint trims it.",
            "percentunit",
            Query(f"drizzle:log_fill:ratio{OF_STREAM} {NAMED}", "{{stream}} at {{node}}"),
            width=6,
            most=1,
            steps=((None, GREEN), (0.8, YELLOW)),
        ),
        lines(
            "Batches sealed",
            "Batches whose bounds are fixed and stored, per second and source.",
            "cps",
            Query(
                f"sum by (job, node) (rate(drizzle_batches_sealed_total{OF_JOB}[{RANGE}]) {NAMED})",
                "{{job}} at {{node}}",
            ),
            width=6,
        ),
    ),
    height=7,
)

ASIDE = Row(
    "On the way",
    (
        lines(
            "Rows by stage",
            "Records and rows that the tasks of a stage take, per second.",
            "cps",
            Query(
                f"sum by (job, stage) (rate(drizzle_records_in_total{OF_JOB}[{RANGE}]))",
                "{{job}} stage {{stage}}",
            ),
        ),
        lines(
            "Late records",
            "Records behind the watermark, per second: their windows were closed. Counted and kept aside.",
            "cps",
            Query(f"sum by (job) (rate(drizzle_late_records_total{OF_JOB}[{RANGE}]))", "{{job}}"),
        ),
        lines(
            "Dead letters",
            "Records that could not be used, per second; they are kept with the reason. And letters"
            " only counted.",
            "cps",
            Query(f"drizzle:dead_letters:rate1m{OF_JOB}", "{{job}}"),
            Query(f"sum(rate(drizzle_dead_letters_dropped_total[{RANGE}]))", "counted, not kept"),
        ),
    ),
    height=7,
)

GOING_OUT = Row(
    "Sinks and state: what goes out, what stays",
    (
        lines(
            "Rows out by stage",
            "Rows that the tasks of a stage give on, per second; those of the last stage go to the sink.",
            "cps",
            Query(
                f"sum by (job, stage) (rate(drizzle_rows_out_total{OF_JOB}[{RANGE}]))",
                "{{job}} stage {{stage}}",
            ),
            width=6,
        ),
        lines(
            "Time to write",
            "Time a sink takes to write one batch, p50 and p99.",
            "s",
            Query(quantile(0.5, "drizzle_sink_seconds", "job"), "{{job}} p50"),
            Query(quantile(0.99, "drizzle_sink_seconds", "job"), "{{job}} p99"),
            width=6,
        ),
        steps(
            "Keys in state",
            "Keys that the stages hold, over all workers.",
            "none",
            Query(f"sum by (job, stage) (drizzle_state_keys{OF_JOB})", "{{job}} stage {{stage}}"),
            width=6,
        ),
        lines(
            "Size of state",
            "Bytes of state that the stages hold, over all workers.",
            "bytes",
            Query(f"sum by (job, stage) (drizzle_state_bytes{OF_JOB})", "{{job}} stage {{stage}}"),
            width=6,
        ),
    ),
    height=7,
)

BOARD = Board(
    "drizzle-traffic",
    "Drizzle: Sources and sinks",
    "What comes in, what waits, what is put aside, what goes out.",
    (COMING_IN, WAITING, ASIDE, GOING_OUT),
    (JOB, STREAM),
    EVENTS,
)
