"""TLS with real certificates: who is believed, who is not, on every way into and out of a service."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from drizzle_loadgen.discovery import discovered
from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.http1 import Connection, Target
from drizzle_loadgen.settings import tls_context
from drizzle_streams.cli.main import main
from drizzle_streams.config import SourceServiceSettings, WorkerServiceSettings, load
from drizzle_streams.errors import ConfigError, UnreachableError
from drizzle_streams.local.http import ask
from drizzle_streams.model.ids import NodeId
from drizzle_streams.source.service import SourceService
from drizzle_streams.tls import NO_TLS, TlsFiles
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer
from tests.bearer import bearer
from tests.security.certificates import Authority
from tests.services.service_worlds import TOKEN, coordinator_on, running, until

CLIENT_VARIABLES = ("DRIZZLE_TLS_CA", "DRIZZLE_TLS_CERT", "DRIZZLE_TLS_KEY")


def without_ca(files: TlsFiles) -> TlsFiles:
    return TlsFiles(files.cert, files.key)


def only_ca(files: TlsFiles) -> TlsFiles:
    return TlsFiles(ca=files.ca)


async def hello(params: Mapping[str, str]) -> bytes:
    return b"hello"


@asynccontextmanager
async def node(name: str, tls: TlsFiles) -> AsyncIterator[HttpTransport]:
    """A node that serves `/hello` and keeps what it was sent in `heard`."""
    transport = HttpTransport(NodeId(name), HttpServer("127.0.0.1", 0, TOKEN, tls=tls), TOKEN)
    transport.serve("/hello", hello)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.close()


async def fetched(client: HttpTransport, server: HttpTransport) -> bytes:
    return await client.fetch(server.address, "/hello", {}, 10.0, 100)


async def test_nodes_that_believe_each_other_link_and_fetch(authority: Authority) -> None:
    async with node("a", authority.sign("a")) as a, node("b", authority.sign("b")) as b:
        heard: list[bytes] = []
        b.on_frame = lambda sender, frame: heard.append(frame)
        assert b.address.startswith("https://")
        assert await fetched(a, b) == b"hello"
        a.send(b.node, b.address, b"over a link")
        await until(lambda: heard == [b"over a link"], "the frame came")


@pytest.mark.parametrize("door", ["fetch", "link"])
@pytest.mark.parametrize(
    "who",
    ["nobody's certificate", "no certificate", "believes another", "plain"],
)
async def test_who_is_not_believed_gets_nothing(
    authority: Authority, stranger: Authority, who: str, door: str
) -> None:
    ours, theirs = authority.sign("server"), stranger.sign("client")
    client = {
        "nobody's certificate": TlsFiles(theirs.cert, theirs.key, ours.ca),
        "no certificate": only_ca(ours),
        "believes another": theirs,
        "plain": NO_TLS,
    }[who]
    async with node("server", ours) as server, node("client", client) as dialler:
        entered: list[NodeId] = []
        server.on_introduced = lambda name, address: entered.append(name)
        unreachable: list[NodeId] = []
        dialler.on_unreachable = unreachable.append
        if door == "fetch":
            with pytest.raises(UnreachableError):
                await fetched(dialler, server)
        else:
            dialler.send(server.node, server.address, b"let me in")
            await until(lambda: bool(unreachable), "the dial failed")
        assert not entered
        assert not server.counters.messages_received


async def test_a_certificate_for_another_host_is_not_believed(authority: Authority) -> None:
    elsewhere = authority.sign("elsewhere", "DNS:elsewhere.example")
    async with node("server", elsewhere) as server, node("client", authority.sign("client")) as client:
        with pytest.raises(UnreachableError, match="certificate"):
            await fetched(client, server)


async def test_without_a_ca_nobody_is_asked_for_a_certificate(authority: Authority) -> None:
    ours = authority.sign("server")
    async with node("server", without_ca(ours)) as server, node("client", only_ca(ours)) as client:
        assert await fetched(client, server) == b"hello"


async def test_a_certificate_is_no_token(authority: Authority) -> None:
    files = authority.sign("server")
    async with node("server", files) as server, aiohttp.ClientSession() as session:
        context = files.client()
        assert context is not None
        async with session.get(f"{server.address}/hello", ssl=context) as answer:
            assert answer.status == 401
        async with session.get(
            f"{server.address}/hello", ssl=context, headers={"Authorization": bearer(TOKEN)}
        ) as answer:
            assert answer.status == 200


async def test_versions_before_1_2_are_refused(authority: Authority) -> None:
    context = without_ca(authority.sign("server")).server()
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("plain", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff", b""])
async def test_what_is_no_tls_is_hung_up_on(authority: Authority, plain: bytes) -> None:
    async with node("server", authority.sign("server")) as server:
        port = int(server.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(plain)
        writer.write_eof()
        answer = await reader.read()
        assert b"HTTP" not in answer
        writer.close()


# --- a cluster, and the clients of it ------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*CLIENT_VARIABLES, "DRIZZLE_CLUSTER", "DRIZZLE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DRIZZLE_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    tls_context.cache_clear()


@asynccontextmanager
async def cluster(authority: Authority, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """A coordinator and a source that joined it, mutually; their addresses."""
    files = authority.sign("cluster")
    tls: dict[str, Any] = {"tls_cert": files.cert, "tls_key": files.key, "tls_ca": files.ca}
    async with AsyncExitStack() as stack:
        coordinator = await stack.enter_async_context(running(coordinator_on(**tls)))
        settings = SourceServiceSettings(
            token=TOKEN, port=0, name="source-1", coordinator=coordinator.address, data_dir=tmp_path, **tls
        )
        source = SourceService(settings)
        await stack.enter_async_context(running(source))
        await until(lambda: source._role.welcomed, "the source was welcomed")
        yield coordinator.address, source.address


async def test_members_join_and_commands_ask_over_mutual_tls(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    person = authority.sign("person", "DNS:person")
    files = ["--tls-ca", str(person.ca), "--tls-cert", str(person.cert), "--tls-key", str(person.key)]
    async with cluster(authority, tmp_path) as (coordinator, source):
        assert coordinator.startswith("https://")
        assert await asyncio.to_thread(main, ["status", "--cluster", coordinator, *files]) == 0
        assert source in capsys.readouterr().out
        assert await asyncio.to_thread(main, ["status", "--cluster", coordinator, *files[:2]]) == 2
        assert await asyncio.to_thread(main, ["status", "--cluster", coordinator]) == 2
        assert "certificate" in capsys.readouterr().err
        with pytest.raises(UnreachableError):
            await asyncio.to_thread(ask, coordinator, "/status", TOKEN, tls=only_ca(person))


async def test_a_job_is_submitted_over_mutual_tls(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.py").write_text(
        "import polars as pl\nimport drizzle_streams as dz\n"
        'job = dz.stream("clicks", schema={"page": pl.String}).group_by("page")'
        '.agg(clicks=dz.count()).to(dz.console()).job("clicks")\n'
    )
    person = authority.sign("person", "DNS:person")
    async with cluster(authority, tmp_path / "source") as (coordinator, _):
        submit = ["submit", "job.py", "--detach", "--cluster", coordinator]
        assert await asyncio.to_thread(main, submit) == 2
        for name, path in zip(CLIENT_VARIABLES, (person.ca, person.cert, person.key), strict=True):
            monkeypatch.setenv(name, str(path))
        assert await asyncio.to_thread(main, submit) == 0, capsys.readouterr()
        assert "job clicks is taken" in capsys.readouterr().out


async def test_the_load_generator_finds_and_posts_over_mutual_tls(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Authorization": bearer(TOKEN)}
    person = authority.sign("person", "DNS:person")
    async with cluster(authority, tmp_path) as (coordinator, source):
        with pytest.raises(UsageError):
            await discovered(coordinator, headers)
        tls_context.cache_clear()
        for name, path in zip(CLIENT_VARIABLES, (person.ca, person.cert, person.key), strict=True):
            monkeypatch.setenv(name, str(path))
        (locate,) = await discovered(coordinator, headers)
        target = await locate()
        assert target == Target.parse(source)
        connection = await Connection.open(target, 10.0)
        connection.post(target.post_head("/streams/clicks/records", headers), {}, b"")
        assert (await connection.answer(10.0)).status == 415, "no content type"
        await connection.close()


# --- settings ------------------------------------------------------------------------------------


def test_files_are_settings(authority: Authority) -> None:
    files = authority.sign("node")
    flags = {"tls_cert": str(files.cert), "tls_key": str(files.key), "tls_ca": str(files.ca)}
    assert load(WorkerServiceSettings, flags, {"DRIZZLE_TOKEN": TOKEN}).tls == files
    assert load(WorkerServiceSettings, {}, {"DRIZZLE_TOKEN": TOKEN}).tls == NO_TLS


@pytest.mark.parametrize("half", ["cert", "key"])
def test_half_of_a_pair_is_refused(authority: Authority, half: str) -> None:
    files = authority.sign("node")
    pair = TlsFiles(**{half: getattr(files, half)})
    for make in (pair.server, pair.client):
        with pytest.raises(ConfigError, match="TLS: wanted a certificate and its key, found one of the two"):
            make()


def test_files_that_do_not_fit_are_named(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.sign("one"), authority.sign("other")
    for files in (
        TlsFiles(one.cert, other.key),
        TlsFiles(one.cert, tmp_path / "nowhere"),
        TlsFiles(one.cert, one.key, one.key),
    ):
        with pytest.raises(ConfigError, match=r"TLS: wanted readable PEM files.*one\.crt"):
            files.server()
