"""What can be read from compose.yaml without an engine: its settings, and that it holds no secret."""

from __future__ import annotations

import re
from typing import Any

import yaml

from drizzle_streams.runtime import lifecycle
from tests.compose.compose_stack import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
WITHOUT_DEFAULT = {"DRIZZLE_TOKEN", "DRIZZLE_INGEST_TOKENS"}


def settings() -> dict[str, str]:
    """Variables that compose.yaml reads, with their defaults; of a default in a default, the whole."""
    plain = re.sub(r"\$\{YSB_SEED:-0\}", "0", TEXT.replace("YSB_SEED: ${YSB_SEED:-0}", ""))
    found = dict(re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", plain))
    return found | {"YSB_SEED": "0"}


def test_every_setting_is_in_the_example_with_its_default() -> None:
    shown = dict(re.findall(r"^#([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert shown == settings()


def test_secrets_have_no_default() -> None:
    assert {name for name, default in settings().items() if not default} == WITHOUT_DEFAULT
    assert set(re.findall(r"(?i)[A-Z_]*(?:password|secret|token)[A-Z_]*=\S+", TEXT)) == set()


def test_every_service_has_limits_and_rotated_logs() -> None:
    for name, service in COMPOSE["services"].items():
        assert {"mem_limit", "cpus", "pids_limit", "restart"} <= service.keys(), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
        assert service["cap_drop"] == ["ALL"]


def test_ports_are_open_on_this_machine_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) >= 6
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_whatever_stays_has_a_health_check() -> None:
    """In compose.yaml or in the image: `up --wait` waits for what runs, not for what has merely started."""
    in_image = {"drizzle-streams:${DRIZZLE_TAG:-local}"}
    for name, service in COMPOSE["services"].items():
        if service["restart"] != "no":
            assert service.get("healthcheck") or service["image"] in in_image, name


def test_services_get_more_time_to_end_than_they_take_at_most() -> None:
    """Else Docker would kill one that is still handing over."""
    for name, service in COMPOSE["services"].items():
        if service["image"].startswith("drizzle-streams") and service["restart"] != "no":
            grace_s = float(service["stop_grace_period"].removesuffix("s"))
            assert grace_s > lifecycle.GRACE_S + lifecycle.CANCELLED_GRACE_S, name
