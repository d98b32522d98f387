"""Groups: how long the cluster runs between two words of the coordinator, what that costs, and why."""

from __future__ import annotations

from deploy.grafana.boards.shared import EVENTS, JOB, OF_JOB
from deploy.grafana.panels import (
    GREEN,
    RANGE,
    RED,
    Board,
    Query,
    Row,
    lines,
    number,
    steps,
    table,
)


def inputs(which: str) -> str:
    """The tuner's inputs whose names match."""
    return f'drizzle_tuner_input{{job=~"$job", input{which}}}'


SIZE = Row(
    "Group size",
    (
        steps(
            "Group size and the tuner's band",
            "Batches per group as launched, the size the tuner asks for, and the least and greatest"
            " size that are feasible."
            " Of a job that states its group size, the target is that size, whatever the band.",
            "none",
            Query(f"drizzle_group_size_batches{OF_JOB}", "{{job}} launched"),
            Query(f"drizzle_tuner_target_batches{OF_JOB}", "{{job}} wanted"),
            Query(f"drizzle_tuner_optimum_batches{OF_JOB}", "{{job}} best if nothing bound it"),
            Query(f"drizzle_tuner_lower_batches{OF_JOB}", "{{job}} least"),
            Query(f"drizzle_tuner_upper_batches{OF_JOB}", "{{job}} greatest"),
            width=12,
        ),
        lines(
            "Group duration",
            "Group size times batch interval: how long the cluster runs without asking the coordinator.",
            "s",
            Query(
                f"drizzle_group_size_batches{OF_JOB} * on (job) drizzle_batch_interval_seconds{OF_JOB}",
                "{{job}}",
            ),
            width=6,
        ),
        lines(
            "Overhead",
            "Coordination time over total time of the last groups (section 3.4 of the paper keeps it"
            " at 5 to 10 %).",
            "percentunit",
            Query(f"drizzle_overhead_ratio{OF_JOB}", "{{job}}"),
            width=6,
        ),
    ),
)

WHY = Row(
    "Why this size",
    (
        steps(
            "What binds",
            "The constraint that decides the group size now is 1; one that did before is 0. `fixed`:"
            " the job states it; `optimum`: no bound does.",
            "none",
            Query(f"drizzle_tuner_binding{OF_JOB}", "{{job}} {{size}}: {{constraint}}"),
            most=1,
        ),
        number(
            "Band empty",
            "1 while no group size is feasible for some job: the least is above the greatest.",
            "none",
            Query(f"max(drizzle_tuner_band_empty{OF_JOB})"),
            width=4,
            steps=((None, GREEN), (1, RED)),
        ),
        table(
            "Every input, now",
            "All that the tuner reckons with; the unit is the end of the name.",
            "none",
            Query(f"drizzle_tuner_input{OF_JOB}"),
            {"job": "Job", "input": "Input", "Value": "Value"},
            width=12,
            decimals=4,
        ),
        lines(
            "Inputs: times",
            "Batch interval, cost of coordinating a group, and whatever else is a time.",
            "s",
            Query(inputs('=~".*_seconds"'), "{{job}} {{input}}"),
            width=6,
        ),
        lines(
            "Inputs: shares",
            "Utilisation and whatever else is a ratio.",
            "percentunit",
            Query(inputs('=~".*_ratio"'), "{{job}} {{input}}"),
            width=6,
        ),
        lines(
            "Inputs: counts",
            "Workers, tasks of a batch, and whatever else is a number without unit.",
            "none",
            Query(inputs('!~".*_(seconds|second|ratio|bytes)"'), "{{job}} {{input}}"),
            decimals=2,
            width=6,
        ),
        lines(
            "Inputs: rates",
            "Failures and adaptations of the cluster, per second, as the tuner expects them.",
            "cps",
            Query(inputs('=~".*_per_second"'), "{{job}} {{input}}"),
            width=6,
        ),
    ),
)

LAUNCHES = Row(
    "Launches and cuts",
    (
        lines(
            "Groups launched",
            "Groups per second: one round of messages each.",
            "cps",
            Query(f"sum by (job) (rate(drizzle_groups_launched_total{OF_JOB}[{RANGE}]))", "{{job}}"),
            width=6,
        ),
        steps(
            "Groups cut",
            "Groups that the coordinator ended early since it leads, because waiting cost more than cutting.",
            "none",
            Query(f"sum by (job) (drizzle_groups_cut_total{OF_JOB})", "{{job}}"),
            width=6,
        ),
        lines(
            "Launch bytes per group",
            "Bytes of launch messages that a group takes. They do not grow with the group, only with"
            " the cluster.",
            "bytes",
            Query(
                f"sum by (job) (rate(drizzle_launch_bytes_total{OF_JOB}[1m]))"
                f" / sum by (job) (rate(drizzle_groups_launched_total{OF_JOB}[1m]))",
                "{{job}}",
            ),
            width=6,
        ),
        lines(
            "Launch messages",
            "Launch messages per second, one per node and group.",
            "cps",
            Query(f"sum by (job) (rate(drizzle_launch_messages_total{OF_JOB}[{RANGE}]))", "{{job}}"),
            width=6,
        ),
        lines(
            "CPU of the coordinator",
            "Cores that the coordinators use. It should not grow with the number of batches.",
            "none",
            Query(
                f"sum(rate(process_cpu_seconds_total[{RANGE}])"
                ' * on (instance) max by (instance) (drizzle_info{service="coordinator"}))',
                "coordinators",
            ),
            width=12,
            decimals=3,
        ),
        lines(
            "Bytes over links",
            "Bytes that services send each other over their links, per second; bulk fetches are not"
            " among them.",
            "Bps",
            Query(
                f'sum by (service) (rate(drizzle_link_bytes_total{{direction="sent"}}[{RANGE}])'
                " * on (instance) group_left (service) topk by (instance)"
                " (1, max by (instance, service) (drizzle_info)))",
                "{{service}}",
            ),
            width=12,
        ),
    ),
)

BOARD = Board(
    "drizzle-groups",
    "Drizzle: Groups",
    "Group size, what coordination costs, and everything the tuner reckons with.",
    (SIZE, WHY, LAUNCHES),
    (JOB,),
    EVENTS,
)
