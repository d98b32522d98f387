"""Submitting a job: one post, and one clear error for whatever goes wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from drizzle_streams.errors import BuildError, ConfigError, DrizzleError, UnreachableError
from drizzle_streams.local.found import STATE_DIRECTORY, leave_note
from drizzle_streams.protocol.tokens import TokenKind
from tests.api.api_worlds import AnySink, counted
from tests.api.stub_cluster import stub_cluster
from tests.bearer import kind_of, minted


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DRIZZLE_CLUSTER", "DRIZZLE_TOKEN", "DRIZZLE_TOKEN_FILE", "DRIZZLE_NO_SUBMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def submit(cluster: str | None = None, token: str | None = "secret") -> str:
    return counted().to(AnySink()).job("counts").submit(cluster, token=token)


def test_a_job_is_posted_and_its_id_given_back() -> None:
    job = counted().to(AnySink()).job("counts")
    with stub_cluster() as cluster:
        assert job.submit(cluster.address, token="secret") == "counts"
    ((path, headers, body),) = cluster.posts
    assert path == "/jobs"
    assert headers["Content-Type"] == "application/vnd.drizzle.job"
    assert kind_of(headers["Authorization"], "secret") is TokenKind.USER
    assert body == job.to_bytes()


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_cluster() as cluster:
        monkeypatch.setenv("DRIZZLE_CLUSTER", cluster.address + "/behind/a/proxy/")
        monkeypatch.setenv("DRIZZLE_TOKEN", "secret")
        submit(token=None)
    ((path, headers, _),) = cluster.posts
    assert (path, kind_of(headers["Authorization"], "secret")) == ("/behind/a/proxy/jobs", TokenKind.USER)


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIZZLE_CLUSTER", "http://127.0.0.1:1")
    monkeypatch.setenv("DRIZZLE_TOKEN", "another")
    with stub_cluster() as cluster:
        submit(cluster.address)
    ((_, headers, _),) = cluster.posts
    assert kind_of(headers["Authorization"], "secret") is TokenKind.USER


def test_the_token_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    monkeypatch.setenv("DRIZZLE_TOKEN_FILE", str(tmp_path / "token"))
    with stub_cluster() as cluster:
        submit(cluster.address, token=None)
    ((_, headers, _),) = cluster.posts
    assert kind_of(headers["Authorization"], "from-a-file") is TokenKind.USER


def test_a_token_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(
        ConfigError, match=r"^DRIZZLE_TOKEN_FILE: wanted a readable text file, found .*nowhere"
    ):
        submit("http://127.0.0.1:1", token=None)


def test_the_cluster_that_was_started_in_this_folder_needs_no_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / STATE_DIRECTORY).mkdir()
    with stub_cluster() as cluster:
        leave_note(tmp_path / STATE_DIRECTORY, cluster.address, "of-the-note")
        submit(token=None)
        submit(cluster.address, token=None)
        with pytest.raises(
            ConfigError, match=r"^cluster: wanted an address and a token.*found no token for http"
        ):
            submit("http://127.0.0.1:1", token=None)
    shown = [kind_of(headers["Authorization"], "of-the-note") for _, headers, _ in cluster.posts]
    assert shown == [TokenKind.USER] * 2


def test_a_minted_token_is_presented_as_it_is() -> None:
    token = minted("secret", TokenKind.USER)
    with stub_cluster() as cluster:
        submit(cluster.address, token)
    ((_, headers, _),) = cluster.posts
    assert headers["Authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("text", ["", "[]", '{"cluster": "http://127.0.0.1:1"}'])
def test_a_damaged_note_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_DIRECTORY).mkdir()
    (tmp_path / STATE_DIRECTORY / "cluster.json").write_text(text)
    with pytest.raises(
        ConfigError, match=r"cluster\.json: wanted the note of `drizzle up`, found .*Remove it"
    ):
        submit(token=None)


def test_a_token_that_is_none_is_not_shown() -> None:
    with pytest.raises(
        ConfigError, match=r"token: wanted printable ASCII without spaces, found something else"
    ):
        submit("http://127.0.0.1:1", "two words\n")


def test_without_any_cluster_it_says_how_to_get_one() -> None:
    with pytest.raises(
        ConfigError, match=r"^cluster: wanted an address .*found no DRIZZLE_CLUSTER .*Run `drizzle up`"
    ):
        submit(token=None)


@pytest.mark.parametrize(
    ("status", "body", "kind", "wording"),
    [
        (
            400,
            b"stream 'x' is unknown\nto me",
            BuildError,
            r"wanted a job it takes, found 400: stream 'x' is unknown to me",
        ),
        (413, b"", BuildError, r"found 413: no reason given"),
        (
            401,
            b"bad token",
            ConfigError,
            r"wanted a token it knows, found 401: bad token\. Set DRIZZLE_TOKEN",
        ),
        (403, b"no", ConfigError, r"Set DRIZZLE_TOKEN"),
        (
            409,
            b"counts runs",
            BuildError,
            r"wanted no job of that name, found 409: counts runs\. Stop it first",
        ),
        (429, b"later", UnreachableError, r"wanted a coordinator that is ready"),
        (503, b"starting", UnreachableError, r"wanted a coordinator that is ready, found 503: starting"),
        (404, b"Not Found", DrizzleError, r"wanted 201, found 404: Not Found\. Check that DRIZZLE_CLUSTER"),
        (500, b"\xff\xfe", DrizzleError, r"wanted 201, found 500: "),
        (201, b"hello", DrizzleError, r'wanted an answer \{"job": id\}, found b\'hello\''),
        (201, b"[1]", DrizzleError, r'wanted an answer \{"job": id\}'),
    ],
)
def test_a_refusal_says_why_and_what_to_do(
    status: int, body: bytes, kind: type[DrizzleError], wording: str
) -> None:
    with stub_cluster((status, body)) as cluster, pytest.raises(kind, match=wording) as caught:
        submit(cluster.address)
    assert str(caught.value).startswith(f"cluster {cluster.address}: ")
    assert "\n" not in str(caught.value)
    assert len(cluster.posts) == 1, "a job is never posted twice"


def test_the_coordinator_says_it_in_its_own_words() -> None:
    fields = {
        "thing": "job 'counts'",
        "wanted": "a free name",
        "found": "one that runs",
        "remedy": "Stop it.",
    }
    body = json.dumps({"error": fields}).encode()
    with stub_cluster((409, body)) as cluster, pytest.raises(BuildError) as caught:
        submit(cluster.address)
    assert str(caught.value) == "job 'counts': wanted a free name, found one that runs. Stop it."


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    with pytest.raises(UnreachableError, match=r"wanted a coordinator that answers within .*drizzle up"):
        submit(address)


def test_somebody_who_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drizzle_streams.api.client.TIMEOUT_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UnreachableError, match=r"answers within 0\.05 s, found timed out"),
    ):
        submit(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize(
    "address", ["localhost:7070", "ftp://host", "http://", "http://host:port", "http://host:99999"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"cluster address: wanted http://host:port or https://host:port, found"
    ):
        submit(address)
