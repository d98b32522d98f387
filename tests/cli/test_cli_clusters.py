"""Commands for clusters: which one is meant, what they show of it, and what they refuse."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from drizzle_streams.api.client import Destination
from drizzle_streams.cli import status
from drizzle_streams.errors import UnreachableError
from drizzle_streams.local.found import STATE_DIRECTORY, leave_note
from tests.cli.said import Drizzle

SECRET = "secret-of-the-tests"


def member(name: str, **changes: Any) -> dict[str, Any]:
    values = {"id": name, "address": "http://10.0.0.1:1", "busy": 0.25, "suspected": False}
    return values | {"lease_left_ms": 1_900, "slots": 1} | changes


def job(name: str = "ysb", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "job": name,
        "phase": "running",
        "detail": "",
        "waits_for": "",
        "scheduling": "group",
        "batches_done": 123,
        "frontier_lag": {"batches": 2, "ms": 104.0},
        "group_size": 20,
        "overhead": 0.031,
        "checkpoint": {"batch": 100, "age_ms": 1_250.0, "parts": 4, "bytes": 1},
        "batch_latency_ms": {"recent": {"p50": 11.5, "p95": 14.0, "p99": 19.25}, "all": None},
        "recoveries": [{"reason": "worker lost", "seconds": 0.71}],
        "recovering": None,
        "placement": {"worker-1-aa": {"0": [0, 1], "1": [0]}, "worker-2-bb": {"1": [1]}},
    }
    return values | changes


class Cluster(ThreadingHTTPServer):
    """A coordinator as commands see it: answers by path, or by a function of the path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, str, str]] = []
        self.jobs = [job()]
        self.workers = [member("worker-1-aa"), member("worker-2-bb", suspected=True)]
        self.story: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.stands_by_for: str | None = None
        self.changes: Callable[[str], None] = lambda path: None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if self.stands_by_for is not None:
            error = {"thing": path, "wanted": "a leader", "found": "a standby", "remedy": "Ask it."}
            return 503, {"error": error, "leader": self.stands_by_for or None}
        self.changes(path)

        def number(name: str) -> int:
            return int(query.get(name, ["0"])[0])

        named = {f"/jobs/{one['job']}": one for one in self.jobs}
        if path in named:
            return 200, named[path] | ({"phase": "stopping"} if method == "DELETE" else {})
        return 200, {
            "/status": {
                "generation": 7,
                "workers": self.workers,
                "sources": [member("source-1", address=self.address)],
                "workers_lost": 1,
                "suspicions": 2,
                "warnings": self.warnings,
                "jobs": self.jobs,
            },
            "/jobs": {"jobs": self.jobs},
            "/leader": {"leader": self.address, "term": 1, "leads": True},
            "/debug/story": {
                "story": [s for s in self.story if s["number"] > int(query.get("after", ["0"])[0])]
            },
            "/workers": {"workers": [f"worker-{n}" for n in range(1, 1 + int(query.get("count", ["0"])[0]))]},
        }[path]


class _Answers(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        assert isinstance(self.server, Cluster)
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
        parts = urlsplit(self.path)
        status, body = self.server.answer(self.command, parts.path, parse_qs(parts.query))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    do_GET = do_DELETE = do_POST = _answer  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        return


def serving(cluster: Cluster) -> Iterator[Cluster]:
    with cluster:
        thread = threading.Thread(target=cluster.serve_forever, args=(0.02,))
        thread.start()
        yield cluster
        cluster.shutdown()
        thread.join()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    yield from serving(Cluster())


@pytest.fixture
def other() -> Iterator[Cluster]:
    yield from serving(Cluster())


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Cluster:
    """The cluster that the environment names."""
    monkeypatch.setenv("DRIZZLE_TOKEN", SECRET)
    monkeypatch.setenv("DRIZZLE_CLUSTER", cluster.address)
    return cluster


def configure(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "config" / "drizzle" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    return path


# --- which cluster ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_cluster_may_be_named_before_or_after_the_command(
    drizzle: Drizzle, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", SECRET)
    named = ("--cluster", cluster.address)
    said = drizzle(*named, "jobs") if order == "before" else drizzle("jobs", *named)
    assert (said.code, "ysb" in said.out) == (0, True)


def test_a_cluster_named_to_a_command_that_talks_to_none_is_a_mistake(drizzle: Drizzle) -> None:
    said = drizzle("--cluster", "http://127.0.0.1:1", "demo")
    assert (said.code, said.error.count("\n")) == (2, 1)
    assert "--cluster" in said.error
    assert "`drizzle demo`" in said.error


def test_a_profile_names_the_cluster_and_its_token(
    drizzle: Drizzle, cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(folder, f'[profiles.one]\ncluster = "{cluster.address}"\ntoken_file = "one.token"\n', 0o644)
    token = folder / "config" / "drizzle" / "one.token"
    token.write_text("drz1.of-the-file\n")
    token.chmod(0o600)
    assert drizzle("--profile", "one", "jobs").code == 0
    monkeypatch.setenv("DRIZZLE_PROFILE", "one")
    assert drizzle("jobs").code == 0
    monkeypatch.delenv("DRIZZLE_PROFILE")
    assert drizzle("jobs").code == 0, "the only profile is the default"
    assert drizzle("jobs", "--cluster", cluster.address).code == 0, "its address is known"
    assert [shown for _, _, shown in cluster.asked] == ["Bearer drz1.of-the-file"] * 4


def test_the_default_profile_comes_last(
    drizzle: Drizzle, cluster: Cluster, other: Cluster, folder: Path
) -> None:
    text = f'default = "one"\n[profiles.one]\ncluster = "{cluster.address}"\ntoken = "drz1.one"\n'
    configure(folder, text + f'[profiles.two]\ncluster = "{other.address}"\ntoken = "drz1.two"\n')
    assert drizzle("jobs").code == 0
    assert [shown for _, _, shown in cluster.asked] == ["Bearer drz1.one"]
    leave_note(folder / STATE_DIRECTORY, other.address, SECRET)
    assert drizzle("jobs").code == 0
    assert len(other.asked) == 1, "a cluster that runs in this folder is nearer"


PROFILE = '[profiles.one]\ncluster = "http://127.0.0.1:1"\n'


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (PROFILE + 'token = "drz1.t"\n', 0o644, ("only its user may read", "mode 644", "chmod 600")),
        (PROFILE + 'token_file = "nowhere"\n', 0o600, ("nowhere", "No such file")),
        (PROFILE + 'token = "drz1.t"\ntoken_file = "x"\n', 0o600, ("both",)),
        (PROFILE + 'tokn = "drz1.t"\n', 0o600, ("tokn", "token_file")),
        ('[profiles.one]\ntoken = "drz1.t"\n', 0o600, ("an address",)),
        ("[profiles.two]\n", 0o600, ("profile 'one'", "found two")),
        ("profiles = 7\n", 0o600, ("[profiles.NAME]",)),
        ("= nonsense", 0o600, ("TOML",)),
    ],
)
def test_a_configuration_that_cannot_be_used(
    drizzle: Drizzle, folder: Path, text: str, mode: int, words: tuple[str, ...]
) -> None:
    configure(folder, text, mode)
    said = drizzle("jobs", "--profile", "one")
    assert (said.code, said.error.count("\n")) == (2, 1), said
    assert "config" in said.error
    for word in words:
        assert word in said.error, said.error


def test_a_standby_sends_the_command_to_the_leader(
    drizzle: Drizzle, known: Cluster, other: Cluster, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.stands_by_for = other.address
    assert drizzle("jobs").code == 0
    monkeypatch.setenv("DRIZZLE_CLUSTER", f"http://127.0.0.1:{dead_port},{known.address}")
    assert drizzle("jobs").code == 0
    assert (len(known.asked), len(other.asked)) == (2, 2)


def test_a_command_waits_for_a_leader_but_not_for_ever(
    drizzle: Drizzle, known: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drizzle_streams.api.leader.NEW_LEADER_S", 0.3)
    known.stands_by_for = ""
    said = drizzle("jobs")
    assert (said.code, said.error.count("\n")) == (2, 1)
    assert "standbys only" in said.error
    assert len(known.asked) > 1


def test_the_consoles_link_leads_to_the_leader_if_that_is_one_of_ours(
    drizzle: Drizzle, known: Cluster, other: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.stands_by_for = known.address
    monkeypatch.setenv("DRIZZLE_CLUSTER", f"{other.address},{known.address}")
    assert drizzle("console").out.startswith(f"{known.address}/console/enter?ticket=")


# --- what they show -----------------------------------------------------------------------------


def test_status_shows_members_jobs_and_what_to_look_at(drizzle: Drizzle, known: Cluster) -> None:
    known.jobs.append(
        job("other", recovering={"reason": "worker-9 lost", "since_ms": 1_500.0}, waits_for="a worker")
    )
    said = drizzle("status")
    assert said.code == 0
    words = ("generation 7", "workers lost 1", known.address, "worker-1-aa", "25%", "source-1", "suspected")
    jobs = (
        "job ysb: running, 123 batches done, lag 2 batches (104 ms)",
        "groups 20 batches, 3.1% of the time is coordination",
        "batch ms p50 11.5, p95 14.0, p99 19.2",
        "checkpoint batch 100, 1 bytes, 1.2 s old",
        "recoveries 1, the last one 0.71 s (worker lost)",
        "a worker",
    )
    shown = " ".join(said.out.split())
    for word in (*words, *jobs, "! worker-2-bb could not be reached", "! other recovers since 1,500 ms"):
        assert word in shown, (word, said.out)


def test_status_as_json_is_everything(drizzle: Drizzle, known: Cluster) -> None:
    values = json.loads(drizzle("status", "--json").out)
    assert (values["leader"], values["generation"]) == (known.address, 7)
    assert values["jobs"][0]["batch_latency_ms"]["recent"]["p99"] == 19.25


def test_status_passes_on_what_the_cluster_warns_of(drizzle: Drizzle, known: Cluster) -> None:
    known.warnings = ["workers are busy 69% of the time"]
    assert "! workers are busy 69% of the time\n" in drizzle("status").out


def test_status_shows_what_chose_the_group_size(drizzle: Drizzle, known: Cluster) -> None:
    tuner = {"binding": "adaptation", "lower": 3.0, "binds_lower": "overhead", "upper": None}
    tuner |= {"binds_upper": "memory", "optimum": 10_150.2, "alarm": None, "inputs": {"delay_seconds": 0.25}}
    known.jobs[0]["tuner"] = tuner
    words = "adaptation decides, at least 3 (overhead), at most any number (memory); 10,150 would cost least"
    assert f"  tuner       {words}\n" in drizzle("status").out
    known.jobs[0]["tuner"] = tuner | {"alarm": "stability asks for more batches than memory allows"}
    assert "; no size fits: stability asks for more batches" in drizzle("status").out


def test_what_goes_to_a_file_is_not_wrapped(drizzle: Drizzle, known: Cluster) -> None:
    known.jobs[0]["waits_for"] = "a worker " * 20
    assert len(max(drizzle("jobs").out.splitlines(), key=len)) > 180


def test_status_that_is_watched_goes_on_through_an_outage(
    drizzle: Drizzle, known: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person who watches a failover sees that nobody answers, and then that all is well again."""
    rounds = iter([UnreachableError("nobody answers"), None])
    read = status.read

    def sometimes(to: Destination) -> dict[str, Any]:
        failure = next(rounds, None) if known.asked else None
        if failure is not None:
            raise failure
        return read(to)

    naps = iter([0, 0])

    def sleep(_: float) -> None:
        if next(naps, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "read", sometimes)
    monkeypatch.setattr("drizzle_streams.cli.status.time.sleep", sleep)
    said = drizzle("status", "--watch")
    assert said.code == 130
    assert "job ysb: running" in said.out


def test_an_empty_cluster_says_what_is_missing(drizzle: Drizzle, known: Cluster) -> None:
    known.workers, known.jobs = [], []
    said = drizzle("status")
    assert "jobs: none" in said.out
    assert "! no worker" in said.out


def test_workers_show_what_they_hold(drizzle: Drizzle, known: Cluster) -> None:
    known.jobs.append(job("gone", phase="stopped"))
    said = drizzle("workers")
    shown = " ".join(said.out.split())
    assert "worker-1-aa http://10.0.0.1:1 1 25% ysb: 3 1,900 ms" in shown
    assert "worker-2-bb http://10.0.0.1:1 1 25% ysb: 1 1,900 ms suspected" in shown
    assert "gone" not in shown, "a job that has ended lies nowhere"
    values = json.loads(drizzle("workers", "--json").out)
    assert [w["partitions"] for w in values["workers"]] == [{"ysb": 3}, {"ysb": 1}]


def line(number: int, text: str, job: str = "", at: float = 0.25) -> dict[str, Any]:
    return {"number": number, "at": at, "kind": "NodeJoined", "job": job, "text": text}


def test_a_story_is_told_in_lines(drizzle: Drizzle, known: Cluster) -> None:
    known.story = [line(1, "worker-1 came"), line(2, "it was placed", "ysb")]
    said = drizzle("story")
    assert said.out.splitlines()[0].split() == ["00:00:00.250", "NodeJoined", "worker-1", "came"]
    assert "[ysb] it was placed" in said.out
    assert drizzle("story", "--job", "ysb").out.count("\n") == 1
    assert json.loads(drizzle("story", "--job", "ysb", "--json").out) == known.story[1]


def test_the_story_of_a_member_is_read_there(drizzle: Drizzle, known: Cluster, other: Cluster) -> None:
    known.workers[0]["address"] = other.address
    other.story = [line(1, "of the worker")]
    assert "of the worker" in drizzle("story", "--service", "worker-1").out
    for service, found in (("worker", "worker-1-aa, worker-2-bb"), ("nobody", "source-1")):
        said = drizzle("story", "--service", service)
        assert (said.code, found in said.error) == (2, True), said


def test_a_story_that_is_followed_goes_on_through_another_life(
    drizzle: Drizzle, known: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new life's lines have the numbers of the old one's, and none of them is missed."""
    stories = [[line(1, "a"), line(2, "b")], [line(2, "b"), line(3, "c")], [], [line(1, "new", at=9.0)]]
    rounds = iter(stories)

    def sleep(_: float) -> None:
        found = next(rounds, None)
        if found is None:
            raise KeyboardInterrupt
        known.story = found

    sleep(0)
    monkeypatch.setattr("drizzle_streams.cli.story.time.sleep", sleep)
    said = drizzle("story", "--follow")
    assert said.code == 130
    assert [words.split()[-1] for words in said.out.splitlines()] == ["a", "b", "c", "new"]


# --- what they do -------------------------------------------------------------------------------

JOB = """
import drizzle as dz
import polars as pl

clicks = dz.stream("clicks", schema={"key": pl.String, "value": pl.Int64})
job = clicks.to(dz.console()).job("clicks")
"""


def test_stop_waits_when_it_is_told_to(drizzle: Drizzle, known: Cluster) -> None:
    assert drizzle("stop", "ysb").out == "job ysb stops after what is launched\n"

    def end(path: str) -> None:
        if path == "/jobs/ysb" and len(known.asked) > 4:
            known.jobs[0]["phase"] = "stopped"

    known.changes = end
    assert drizzle("stop", "ysb", "--wait").out == "job ysb: stopped\n"
    known.changes, known.jobs[0]["phase"] = (lambda path: None), "running"
    said = drizzle("stop", "ysb", "--wait", "--timeout", "1")
    assert (said.code, "within 1 s" in said.error) == (2, True)


def test_scaling_is_the_supervisors_work(drizzle: Drizzle, cluster: Cluster, folder: Path) -> None:
    leave_note(folder / STATE_DIRECTORY, cluster.address, SECRET, cluster.address)
    assert drizzle("scale", "--workers", "3").out == "workers: worker-1, worker-2, worker-3\n"
    assert [(method, path) for method, path, _ in cluster.asked] == [("POST", "/workers?count=3")]


def test_scaling_elsewhere_says_how(drizzle: Drizzle, known: Cluster) -> None:
    said = drizzle("scale", "--workers", "5")
    assert (said.code, said.error.count("\n")) == (2, 1)
    assert "docker compose up -d --no-recreate --scale worker=5" in said.error
    assert "kubectl --namespace drizzle scale deployment/worker --replicas=5" in said.error
    assert known.asked == []
