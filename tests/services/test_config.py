"""Settings: where they come from, what beats what, and what is said when one cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from drizzle_streams.config import (
    GIB,
    MIB,
    ClientSettings,
    CoordinatorServiceSettings,
    SourceServiceSettings,
    WorkerServiceSettings,
    load,
    options,
)
from drizzle_streams.errors import ConfigError

SECRET = "secret-of-the-tests"
TOKEN = {"DRIZZLE_TOKEN": SECRET}
EVERY_KIND = (CoordinatorServiceSettings, WorkerServiceSettings, SourceServiceSettings, ClientSettings)


def test_defaults_need_only_the_token():
    coordinator = load(CoordinatorServiceSettings, environ=TOKEN)
    assert (coordinator.host, coordinator.port, coordinator.lease_ms) == ("127.0.0.1", 7070, 2_000)
    assert load(WorkerServiceSettings, environ=TOKEN).coordinator == "http://127.0.0.1:7070"
    source = load(SourceServiceSettings, environ=TOKEN)
    assert (source.partitions, source.durability, source.log_budget_bytes) == (2, "batch", GIB)


def test_a_flag_beats_the_variable_and_the_variable_beats_the_default():
    environ = TOKEN | {"DRIZZLE_PORT": "7999"}
    assert load(SourceServiceSettings, environ=environ).port == 7999
    assert load(SourceServiceSettings, {"port": "7000", "name": None}, environ).port == 7000
    assert load(SourceServiceSettings, environ=TOKEN).port == 7071


def test_the_environment_of_the_process_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("DRIZZLE_TOKEN", "from-the-process")
    assert load(ClientSettings).token == "from-the-process"


def test_an_empty_variable_is_one_that_is_not_set():
    assert load(SourceServiceSettings, environ=TOKEN | {"DRIZZLE_PORT": " "}).port == 7071


@pytest.mark.parametrize(
    ("kind", "variable", "text"),
    [
        (CoordinatorServiceSettings, "DRIZZLE_PORT", "70700"),
        (CoordinatorServiceSettings, "DRIZZLE_PORT", "http"),
        (CoordinatorServiceSettings, "DRIZZLE_LEASE_MS", "1"),
        (CoordinatorServiceSettings, "DRIZZLE_REDIS_URL", "localhost:6379"),
        (CoordinatorServiceSettings, "DRIZZLE_REDIS_URL", "redis://host:port"),
        (CoordinatorServiceSettings, "DRIZZLE_LOG_LEVEL", "loud"),
        (WorkerServiceSettings, "DRIZZLE_COORDINATOR", "coordinator:7070"),
        (WorkerServiceSettings, "DRIZZLE_NAME", "a b"),
        (WorkerServiceSettings, "DRIZZLE_NAME", "coordinator"),
        (WorkerServiceSettings, "DRIZZLE_SLOTS", "0"),
        (SourceServiceSettings, "DRIZZLE_DURABILITY", "often"),
        (SourceServiceSettings, "DRIZZLE_LOG_BUDGET_BYTES", "10 apples"),
        (SourceServiceSettings, "DRIZZLE_LOG_BUDGET_BYTES", "1"),
        (SourceServiceSettings, "DRIZZLE_INGEST_TOKENS", "ad-events"),
        (SourceServiceSettings, "DRIZZLE_INGEST_TOKENS", "../x=y"),
    ],
)
def test_what_cannot_be_used_is_named(kind, variable, text):
    with pytest.raises(ConfigError, match=f"^{variable}: wanted .+, found .+\\. .+"):
        load(kind, environ=TOKEN | {variable: text})


def test_a_wrong_flag_is_named_as_a_flag():
    with pytest.raises(ConfigError, match="^--log-segment-bytes: wanted a size from 65536"):
        load(SourceServiceSettings, {"log_segment_bytes": "12"}, TOKEN)


@pytest.mark.parametrize("text", ["short", "a" * 15, f"{SECRET},short", f"{SECRET},", "drz1.user." + SECRET])
def test_a_service_takes_no_secret_that_could_be_guessed(text):
    with pytest.raises(ConfigError, match="^DRIZZLE_TOKEN: wanted 16 or more characters"):
        load(CoordinatorServiceSettings, environ={"DRIZZLE_TOKEN": text})


def test_several_secrets_are_one_setting():
    assert load(CoordinatorServiceSettings, environ={"DRIZZLE_TOKEN": f"{SECRET},{SECRET}2"}).token == (
        f"{SECRET},{SECRET}2"
    )


def test_yes_and_no():
    for text, wanted in (("yes", True), ("no", False)):
        settings = load(WorkerServiceSettings, environ=TOKEN | {"DRIZZLE_METRICS_PUBLIC": text})
        assert settings.metrics_public is wanted
    with pytest.raises(ConfigError, match="DRIZZLE_METRICS_PUBLIC: wanted yes or no, found 'true'"):
        load(WorkerServiceSettings, environ=TOKEN | {"DRIZZLE_METRICS_PUBLIC": "true"})
    shown = {option.name: option.default for option in options(WorkerServiceSettings)}
    assert shown["metrics_public"] == "no"


def test_a_missing_token_says_how_to_make_one():
    with pytest.raises(ConfigError, match="DRIZZLE_TOKEN: .*DRIZZLE_TOKEN_FILE.*openssl rand"):
        load(CoordinatorServiceSettings, environ={})


def test_a_secret_may_lie_in_a_file(tmp_path: Path):
    (tmp_path / "token").write_text("s3cret\n")
    environ = {"DRIZZLE_TOKEN_FILE": str(tmp_path / "token")}
    assert load(ClientSettings, environ=environ).token == "s3cret"
    assert load(ClientSettings, environ=environ | TOKEN).token == SECRET
    with pytest.raises(ConfigError, match="DRIZZLE_TOKEN_FILE: wanted a readable text file"):
        load(ClientSettings, environ={"DRIZZLE_TOKEN_FILE": str(tmp_path / "nowhere")})


def test_secrets_are_in_no_error_no_repr_and_no_help():
    environ = {"DRIZZLE_TOKEN": "hush hush", "DRIZZLE_REDIS_URL": "redis://:pass@host:0"}
    for variable, text in environ.items():
        with pytest.raises(ConfigError, match=variable) as caught:
            load(CoordinatorServiceSettings, environ=TOKEN | {variable: text})
        assert "hush" not in str(caught.value)
        assert "pass" not in str(caught.value)
    settings = load(
        SourceServiceSettings, environ={"DRIZZLE_TOKEN": "hush" * 4, "DRIZZLE_INGEST_TOKENS": "*=hush"}
    )
    assert "hush" not in repr(settings)
    assert all(
        option.default == "" for option in options(SourceServiceSettings) if "TOKEN" in option.variable
    )


def test_sizes_and_ingest_tokens():
    environ = TOKEN | {
        "DRIZZLE_LOG_BUDGET_BYTES": "64MiB",
        "DRIZZLE_LOG_CACHE_BYTES": "0",
        "DRIZZLE_INGEST_TOKENS": "ads=a, ads=b\n*=c",
    }
    settings = load(SourceServiceSettings, environ=environ)
    assert (settings.log_budget_bytes, settings.log_cache_bytes) == (64 * MIB, 0)
    assert settings.ingest_tokens == (("ads", ("a", "b")), ("*", ("c",)))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_setting_has_its_variable_its_help_and_one_flag_unless_it_is_a_token(kind):
    listed = options(kind)
    assert len({option.variable for option in listed}) == len(listed)
    for option in listed:
        assert option.variable == "DRIZZLE_" + option.name.upper()
        assert option.says
        assert (option.flag == "") == ("token" in option.name)


def test_a_flag_that_does_not_exist_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="ports"):
        load(SourceServiceSettings, {"ports": "1"}, TOKEN)
