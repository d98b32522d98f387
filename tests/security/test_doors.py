"""Every door of every service, tried with everything that should not open it, and with all that should.

Doors are found by asking the running servers, and compared with the table of docs/threat-model.md: a new
door fails here until somebody has decided and written down what opens it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from drizzle_streams.protocol.tokens import CLOCK_SKEW_S, Keyring, TokenKind
from drizzle_streams.transport import auth
from drizzle_streams.transport.auth import SESSION_COOKIE, header, session_token
from drizzle_streams.transport.base import RefuseReason
from tests.bearer import bearer, minted
from tests.docs.pages import ROOT, rows
from tests.security.houses import SERVICES, Door, Houses, houses
from tests.services.service_worlds import TOKEN

PAGE = ROOT / "docs" / "threat-model.md"
OPENED_BY = {
    "none": set(TokenKind),
    "cluster": {TokenKind.CLUSTER},
    "user": {TokenKind.CLUSTER, TokenKind.USER},
    "metrics": {TokenKind.CLUSTER, TokenKind.USER, TokenKind.METRICS},
    "ingest": {TokenKind.CLUSTER, TokenKind.USER, TokenKind.INGEST},
}
KEYS = {auth.CLUSTER: "cluster", auth.USER: "user", auth.METRICS: "metrics", auth.PUBLIC: "none"}
SHUT = (401, 403)
NOW = time.time()


def written() -> set[tuple[str, str, str]]:
    """(service, door, key) of the page."""
    return {
        (service.strip(), door, key)
        for door, services, key in rows(PAGE, "Doors")
        for service in services.split(",")
    }


def called(door: Door) -> str:
    """What the page calls the door's key."""
    return "ingest" if isinstance(door.key, auth.Ingest) else KEYS[door.key]


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Houses]:
    async with houses(tmp_path, monkeypatch) as found:
        yield found


async def knock(
    houses: Houses, service: str, door: Door, shown: str | None, *, cookie: str | None = None
) -> tuple[int, str]:
    """The status and the challenge for what is shown; a stream of events is not waited for."""
    headers = {} if shown is None else {"Authorization": shown}
    cookies = {} if cookie is None else {SESSION_COOKIE: cookie}
    method = "PATCH" if door.method == "*" else door.method
    url = houses.servers[service].address + door.url()
    async with (
        aiohttp.ClientSession(cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
        session.request(method, url, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, answer.headers.get("WWW-Authenticate", "")


async def test_every_door_is_written_down_with_what_opens_it(cluster: Houses) -> None:
    found = {
        (service, f"{door.method} {door.path}", called(door))
        for service in SERVICES
        for door in cluster.doors(service)
        if door.method != "HEAD"
    }
    assert found == written()


async def test_head_has_the_key_of_get(cluster: Houses) -> None:
    for service in SERVICES:
        keys = {(door.method, door.path): door.key for door in cluster.doors(service)}
        heads = [path for method, path in keys if method == "HEAD"]
        assert all(keys["HEAD", path] == keys["GET", path] for path in heads)


@pytest.mark.parametrize("service", SERVICES)
async def test_without_a_genuine_token_no_door_opens(cluster: Houses, service: str) -> None:
    old = header(Keyring((TOKEN,)).mint(TokenKind.CLUSTER, "*", NOW - 3_600, 3_500 - CLOCK_SKEW_S))
    genuine = bearer(TOKEN)
    strange = {
        "nothing": None,
        "an empty one": header(""),
        "the secret itself": header(TOKEN),
        "another cluster's": bearer("secret-of-another-cluster"),
        "an old one": old,
        "a forged kind": bearer(TOKEN, TokenKind.METRICS).replace("metrics", "cluster"),
        "a longer life": genuine.replace(".tests.", ".tests.9"),
        "another scheme": genuine.replace("Bearer", "Basic"),
    }
    locked = [door for door in cluster.doors(service) if called(door) != "none"]
    assert locked
    for door in locked:
        for name, shown in strange.items():
            status, challenge = await knock(cluster, service, door, shown)
            assert status == 401, f"{door.method} {door.path} opens to {name}"
            assert challenge.startswith("Bearer"), (door, name)
            assert ("expired" in challenge) == (name == "an old one")
    assert cluster.servers[service].refused[RefuseReason.TOKEN] == len(locked) * len(strange)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", TokenKind)
async def test_each_kind_opens_its_doors_and_no_others(
    cluster: Houses, service: str, kind: TokenKind
) -> None:
    shown = bearer(TOKEN, kind, "clicks")
    for door in cluster.doors(service):
        status, challenge = await knock(cluster, service, door, shown)
        if kind in OPENED_BY[called(door)]:
            assert status not in SHUT or called(door) == "none", (
                f"{door.method} {door.path} is shut to {kind}"
            )
        else:
            assert status == 403, f"{door.method} {door.path} opens to {kind}"
            assert "insufficient_scope" in challenge


async def test_public_doors_tell_a_stranger_nothing_of_the_cluster(cluster: Houses) -> None:
    for service in SERVICES:
        for door in cluster.doors(service):
            if called(door) == "none" and door.path in ("/healthz", "/readyz"):
                assert (await knock(cluster, service, door, None))[0] in (200, 503)


async def test_paths_that_do_not_exist_are_as_shut_as_those_that_do(cluster: Houses) -> None:
    for service in SERVICES:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            nowhere = Door(method, "/nowhere/at/all", auth.USER)
            assert (await knock(cluster, service, nowhere, None))[0] == 401
            assert (await knock(cluster, service, nowhere, bearer(TOKEN, TokenKind.INGEST)))[0] == 403
            assert (await knock(cluster, service, nowhere, bearer(TOKEN)))[0] not in SHUT


async def test_an_ingest_token_is_for_its_stream(cluster: Houses) -> None:
    (door,) = [one for one in cluster.doors("source") if isinstance(one.key, auth.Ingest)]
    for subject, opens in (("clicks", True), ("*", True), ("views", False), ("click", False)):
        status, _ = await knock(cluster, "source", door, bearer(TOKEN, TokenKind.INGEST, subject))
        assert (status not in SHUT) == opens, subject


async def test_with_static_ingest_tokens_users_do_not_post(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with houses(tmp_path, monkeypatch) as cluster:
        server = cluster.servers["source"]
        (door,) = [one for one in cluster.doors("source") if isinstance(one.key, auth.Ingest)]
        route = next(route for route, key in server._keys.items() if key is door.key)
        server._keys[route] = auth.ingest({"clicks": ("static-token",)})
        assert (await knock(cluster, "source", door, header("static-token")))[0] not in SHUT
        for kind in TokenKind:
            status, _ = await knock(cluster, "source", door, bearer(TOKEN, kind, "clicks"))
            assert (status not in SHUT) == (kind is TokenKind.INGEST)
        for other in cluster.doors("source"):
            if called(other) in ("cluster", "user", "metrics"):
                assert (await knock(cluster, "source", other, header("static-token")))[0] == 401


@pytest.mark.parametrize("service", SERVICES)
async def test_a_session_looks_and_changes_nothing(cluster: Houses, service: str) -> None:
    session = session_token(Keyring((TOKEN,)), time.time())
    for door in cluster.doors(service):
        status, _ = await knock(cluster, service, door, None, cookie=session)
        key = called(door)
        if key == "none":
            continue
        if door.method in ("GET", "HEAD"):
            assert (status not in SHUT) == (key in ("user", "metrics")), (
                f"{door.method} {door.path}: {status}"
            )
        else:
            assert status == 401, f"{door.method} {door.path} opens to a cookie"


async def test_a_stolen_service_token_is_no_session(cluster: Houses) -> None:
    door = Door("GET", "/status", auth.USER)
    assert (await knock(cluster, "coordinator", door, None, cookie=minted(TOKEN)))[0] == 403
    assert (await knock(cluster, "coordinator", door, None, cookie="nonsense"))[0] == 401


async def test_metrics_may_be_public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with houses(tmp_path, monkeypatch, metrics_public=True) as cluster:
        for service in SERVICES:
            doors = {door.path: door for door in cluster.doors(service)}
            assert (await knock(cluster, service, doors["/metrics"], None))[0] == 200
            locked = {door.path for door in cluster.doors(service) if called(door) != "none"}
            assert "/metrics" not in locked
            assert locked


async def test_the_old_secret_opens_while_it_is_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = "the-next-secret-of-tests"
    async with houses(tmp_path, monkeypatch, token=f"{new},{TOKEN}") as cluster:
        door = Door("GET", "/status", auth.USER)
        for secret, opens in ((TOKEN, True), (new, True), ("secret-of-another-cluster", False)):
            status, _ = await knock(cluster, "coordinator", door, bearer(secret))
            assert (status == 200) == opens
