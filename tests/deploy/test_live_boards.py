"""Every question of the dashboards, asked a real Prometheus that has scraped a real cluster.

The cluster is local processes, so the addresses come from a list here, where compose has DNS;
everything else (tokens, labels, rules, alerts, boards, provisioning) is what compose mounts.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml

from drizzle_streams.local.ports import free_port
from drizzle_streams.protocol.tokens import TokenKind
from tests.bearer import minted
from tests.deploy.conftest import Run, docker
from tests.deploy.panel_queries import DASHBOARDS, ROOT, boards, queries, unanswered
from tests.deploy.watched_cluster import load, targets, watched

pytestmark = [pytest.mark.compose, pytest.mark.timeout(400)]

PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:11.5.0"
RATE, SECONDS = 1_000, 30.0
WAIT_S = 90.0
POLL_S = 1.0


async def test_every_panel_has_data_once_a_cluster_has_run(tmp_path: Path, container: Run) -> None:
    async with watched(tmp_path) as cluster:
        token = minted(cluster.token, TokenKind.METRICS, "prometheus")
        prometheus = await asyncio.to_thread(start_prometheus, container, tmp_path, token, targets(cluster))
        since = time.time()
        await load(cluster, rate=RATE, seconds=SECONDS)

        faults = await asyncio.to_thread(left_unanswered, prometheus, since)
        assert faults == [], "\n".join(faults)

        assert down(prometheus) == []
        grafana = await asyncio.to_thread(start_grafana, container, tmp_path, prometheus)
        assert set(boards()) == {one["uid"] for one in fetched(f"{grafana}/api/search")}
        asked = fetched(f"{grafana}/standin/check")
        assert {one["status"] for one in asked} == {"success"}
        assert len(asked) == sum(not one.annotation for one in queries())


def left_unanswered(prometheus: str, since: float) -> list[str]:
    """What Prometheus has no data for when the next scrapes and evaluations are through."""
    deadline = time.monotonic() + WAIT_S
    while (faults := unanswered(prometheus, since, time.time())) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return faults


def start_prometheus(run: Run, folder: Path, token: str, scraped: dict[str, list[str]]) -> str:
    """With the configuration that compose mounts, but for how addresses are found."""
    config = folder / "prometheus"
    shutil.copytree(ROOT / "deploy" / "prometheus", config)
    told = yaml.safe_load((config / "prometheus.yml").read_text())
    for scrape in told["scrape_configs"]:
        del scrape["dns_sd_configs"]
        scrape["static_configs"] = [{"targets": scraped.pop(scrape["job_name"])}]
    assert scraped == {}, "nobody scrapes them"
    (config / "prometheus.yml").write_text(yaml.safe_dump(told))
    secret = folder / "metrics-token"
    secret.write_text(token)
    port = free_port()
    mounts = ("-v", f"{config}:/etc/prometheus:ro", "-v", f"{secret}:/run/drizzle-metrics/token:ro")
    flags = (
        "--config.file=/etc/prometheus/prometheus.yml",
        "--storage.tsdb.path=/tmp/prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    name = run("--network", "host", "--user", "root", *mounts, PROMETHEUS, *flags)
    address = f"http://127.0.0.1:{port}"
    until_answers(f"{address}/-/ready", name)
    return address


def start_grafana(run: Run, folder: Path, prometheus: str) -> str:
    """With what compose mounts, but for the address of the data source."""
    provisioning = folder / "provisioning"
    shutil.copytree(ROOT / "deploy" / "grafana" / "provisioning", provisioning)
    source = provisioning / "datasources" / "prometheus.yml"
    text = source.read_text()
    assert text.count("http://prometheus:9090") == 1
    source.write_text(text.replace("http://prometheus:9090", prometheus))
    port = free_port()
    mounts = (
        *("-v", f"{provisioning}:/etc/grafana/provisioning:ro"),
        *("-v", f"{DASHBOARDS}:/var/lib/grafana/dashboards:ro"),
    )
    setting = ("-e", f"GF_SERVER_HTTP_PORT={port}")
    name = run("--network", "host", "--user", "root", *setting, *mounts, GRAFANA)
    address = f"http://127.0.0.1:{port}"
    until_answers(f"{address}/api/health", name)
    return address


def until_answers(url: str, name: str) -> None:
    """200 within the time; else what the container said."""
    deadline = time.monotonic() + WAIT_S
    while not answers(url):
        running = docker("inspect", "-f", "{{.State.Running}}", name).strip()
        assert running == "true", docker("logs", name)
        assert time.monotonic() < deadline, docker("logs", name)
        time.sleep(POLL_S / 5)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (URLError, ConnectionError, TimeoutError):
        return False


def down(prometheus: str) -> list[str]:
    """Targets that are not up, with the reason."""
    found = fetched(f"{prometheus}/api/v1/targets")["data"]["activeTargets"]
    assert len(found) == 5
    return [f"{one['scrapeUrl']}: {one['lastError']}" for one in found if one["health"] != "up"]


def fetched(url: str) -> Any:
    with urlopen(url, timeout=60) as answer:
        return json.load(answer)
