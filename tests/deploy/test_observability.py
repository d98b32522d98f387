"""Dashboards, rules and alerts as files: whole, true to the metrics there are, and explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import generate
from tests.deploy.panel_queries import DASHBOARDS, ROOT, boards, filled, queries
from tests.deploy.promql_names import declared, known, names_in
from tests.docs.pages import anchor

PROMETHEUS = ROOT / "deploy" / "prometheus"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
OPERATIONS = ROOT / "docs" / "operations.md"
PANEL_WORDS_MIN = 4


def rules() -> list[dict[str, Any]]:
    files = sorted([*PROMETHEUS.glob("rules/*.yml"), *PROMETHEUS.glob("alerts/*.yml")])
    found = [rule for path in files for group in loaded(path)["groups"] for rule in group["rules"]]
    assert found
    return found


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


# --- dashboards ---------------------------------------------------------------------------


def test_the_files_are_as_they_would_be_written_now() -> None:
    """`python -m deploy.grafana.generate` brings them up to date."""
    assert {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")} == generate.files()


def test_the_boards_that_were_promised_are_there() -> None:
    titles = {board["title"].removeprefix("Drizzle: ") for board in boards().values()}
    assert titles == {"Cluster", "Groups", "Recovery", "Sources and sinks"}
    assert len(boards()) == len(list(DASHBOARDS.glob("*.json"))), "two files have one uid"


@pytest.mark.parametrize("board", [*boards().values()], ids=lambda board: board["uid"])
def test_a_board_fits_its_grid_and_links_to_the_others(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert board["schemaVersion"] >= 39
    assert len(board["uid"]) <= 40
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    (link,) = board["links"]
    assert link["type"] == "dashboards"
    assert set(link["tags"]) <= set(board["tags"])
    assert link["keepTime"]
    assert link["includeVars"]


@pytest.mark.parametrize("board", [*boards().values()], ids=lambda board: board["uid"])
def test_a_panel_says_what_it_shows_and_in_which_unit(board: dict[str, Any]) -> None:
    said = [panel["description"] for panel in panels(board)]
    assert len(set(said)) == len(said), "two panels are described alike"
    for panel in panels(board):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert len(panel["description"].split()) >= PANEL_WORDS_MIN, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]


def test_the_data_source_of_every_panel_is_the_provisioned_one() -> None:
    (source,) = loaded(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    asked = {(p["datasource"]["type"], p["datasource"]["uid"]) for b in boards().values() for p in panels(b)}
    assert asked == {(source["type"], source["uid"])}
    (provider,) = loaded(PROVISIONING / "dashboards" / "drizzle.yml")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.parametrize("board", [*boards().values()], ids=lambda board: board["uid"])
def test_what_happened_is_drawn_on_every_board(board: dict[str, Any]) -> None:
    told = " ".join(one.get("expr", "") for one in board["annotations"]["list"])
    for happened in ("workers_lost", "groups_cut", "workers_joined", "workers_left", "leads_taken"):
        assert f"drizzle_{happened}_total" in told


def test_every_choice_is_over_a_label_that_its_metric_has() -> None:
    asked = [one["definition"] for board in boards().values() for one in board["templating"]["list"]]
    assert asked
    for definition in asked:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition)
        assert found, definition
        assert found[2] in declared()[found[1]][1], definition


def test_a_variable_nobody_declares_is_found() -> None:
    assert filled('a{job=~"$job"}[$__rate_interval]', {"job": ".*"}) == 'a{job=~".*"}[20s]'
    with pytest.raises(KeyError):
        filled("a[$typo]", {})


# --- names --------------------------------------------------------------------------------


def test_names_are_found_in_expressions() -> None:
    expr = 'sum by (job, le) (rate(drizzle_a_bucket{job=~"x.*"}[1m])) / on (job) drizzle:b:ratio > 3 and up'
    assert names_in(expr) == {"drizzle_a_bucket", "drizzle:b:ratio", "up"}


@pytest.mark.parametrize("asked", list(queries()), ids=lambda asked: f"{asked.board}, {asked.panel}")
def test_a_panel_asks_only_for_metrics_there_are(asked: Any) -> None:
    found = names_in(asked.expr)
    assert found
    assert found - known(rules()) == set()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_reads_only_metrics_there_are(rule: dict[str, Any]) -> None:
    assert names_in(rule["expr"]) - known(rules()) == set()


def test_every_recorded_number_is_used() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for one in queries() for name in names_in(one.expr)}
    asked |= {name for rule in rules() for name in names_in(rule["expr"])}
    assert recorded - asked == set()


# --- alerts -------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Sections of the operations guide by the anchors of their headings."""
    parts = re.split(r"^#+ +(.+)$", OPERATIONS.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(map(anchor, parts[::2]), parts[1::2], strict=True))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    notes = alert["annotations"]
    path, _, place = notes["runbook"].partition("#")
    assert ROOT / path == OPERATIONS
    assert place == anchor(alert["alert"])
    assert "What to do" in sections()[place], f"no advice on {alert['alert']}"
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert notes["summary"]
    assert notes["description"].endswith(".")


def test_no_advice_on_an_alert_that_is_gone() -> None:
    told = {head for head in sections() if head.startswith("drizzle")}
    assert told == {anchor(alert["alert"]) for alert in alerts()}


def test_every_alert_is_tested() -> None:
    tested = (PROMETHEUS / "tests" / "alerts.yml").read_text()
    assert [alert["alert"] for alert in alerts() if alert["alert"] not in tested] == []


def test_every_service_of_compose_is_scraped_at_its_port() -> None:
    """By its name on the cluster's network; each container of a name is a target."""
    services = loaded(ROOT / "compose.yaml")["services"]
    scraped: dict[str, int] = {}
    for scrape in loaded(PROMETHEUS / "prometheus.yml")["scrape_configs"]:
        assert scrape["honor_labels"], "Drizzle's own `job` would be renamed"
        assert scrape["authorization"]["credentials_file"] == "/run/drizzle-metrics/token"
        for found in scrape["dns_sd_configs"]:
            assert found["type"] == "A"
            scraped |= dict.fromkeys(found["names"], found["port"])
    answering = {
        name: int(one["environment"]["DRIZZLE_PORT"])
        for name, one in services.items()
        if "DRIZZLE_PORT" in (one.get("environment") or {})
    }
    assert scraped == answering
