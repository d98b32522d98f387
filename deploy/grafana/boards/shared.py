"""What the boards share: the choice of jobs, the join that names a worker, and what happened.

Queries use metrics of `docs/metrics.md` and rules of `deploy/prometheus/rules`. Tests check that
each of them exists, and that every panel has data once a cluster has run.
"""

from __future__ import annotations

from deploy.grafana.panels import RANGE, Annotation, Variable

JOB = Variable("job", "Job", "drizzle_frontier_batch")
OF_JOB = '{job=~"$job"}'
NAMED = "* on (instance) group_left (node) topk by (instance) (1, max by (instance, node) (drizzle_info))"
"""Joins the series of a service to its name. To one: an address that a new container has from one that went
has two for some seconds, for which Prometheus would refuse the query, over any time that holds them."""


def quantile(share: float, histogram: str, by: str, labels: str = OF_JOB, span: str = RANGE) -> str:
    """A quantile of a histogram over all services, by these labels."""
    return f"histogram_quantile({share:g}, sum by ({by}, le) (rate({histogram}_bucket{labels}[{span}])))"


EVENTS = (
    Annotation(
        "Worker lost", "red", f"sum(changes(drizzle_workers_lost_total[{RANGE}])) > 0", "A worker was lost"
    ),
    Annotation(
        "Group cut",
        "purple",
        f"sum by (job) (changes(drizzle_groups_cut_total{OF_JOB}[{RANGE}])) > 0",
        "A group of {{job}} was cut",
    ),
    Annotation(
        "Worker joined", "blue", f"sum(changes(drizzle_workers_joined_total[{RANGE}])) > 0", "A worker joined"
    ),
    Annotation(
        "Worker left",
        "yellow",
        f"sum(changes(drizzle_workers_left_total[{RANGE}])) > 0",
        "A worker left in order",
    ),
    Annotation(
        "New leader",
        "orange",
        f"sum(changes(drizzle_leads_taken_total[{RANGE}])) > 0",
        "A coordinator took the lead",
    ),
)
"""Kills, cuts, changes of scale and of leadership."""
