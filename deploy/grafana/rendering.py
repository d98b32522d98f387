"""The JSON that Grafana provisions, made of `panels`.

A row's panels stand side by side in Grafana's 24 columns and are wrapped where these end, so
nobody counts coordinates. Ids follow the order on the board: the same boards give the same files.
"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.grafana.panels import Annotation, Board, Json, Panel, Query, Row, Variable

SCHEMA_VERSION = 40
"""Of Grafana 11.5."""
COLUMNS = 24
SOURCE: Json = {"type": "prometheus", "uid": "drizzle-prometheus"}
TAG = "drizzle"


def dashboard(board: Board) -> Json:
    """The board as a provisioned file holds it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.says,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "links": [_link()],
        "annotations": {"list": [_built_in(), *map(_annotation, board.annotations)]},
        "templating": {"list": [*map(_variable, board.variables)]},
        "panels": _placed(board.rows),
    }


def _placed(rows: Sequence[Row]) -> list[Json]:
    """Panels with ids and places, rows from top to bottom."""
    placed: list[Json] = []
    top = 0
    for row in rows:
        placed.append(_heading(row.title, len(placed) + 1, top))
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + row.height, 0
            place = {"h": row.height, "w": panel.width, "x": left, "y": top}
            placed.append(_panel(panel, len(placed) + 1, place))
            left += panel.width
        top += row.height
    return placed


def _heading(title: str, number: int, top: int) -> Json:
    place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: Json) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in panel.steps],
        },
        "mappings": list(panel.mappings),
    }
    for name, value in (("min", panel.least), ("max", panel.most), ("decimals", panel.decimals)):
        if value is not None:
            defaults[name] = value
    if panel.kind == "timeseries":
        defaults["custom"] = _curve(panel) | dict(panel.custom)
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [_target(query, place, panel.kind) for place, query in enumerate(panel.queries)],
        "transformations": list(panel.transformations),
    }


def _curve(panel: Panel) -> Json:
    return {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if len(panel.steps) > 1 else "off"},
    }


def _options(panel: Panel) -> Json:
    if panel.kind != "timeseries":
        return dict(panel.options)
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}} | dict(panel.options)


def _target(query: Query, place: int, kind: str) -> Json:
    instant = kind == "table"
    return {
        "refId": chr(ord("A") + place),
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": "table" if kind == "table" else "time_series",
    }


def _link() -> Json:
    """To the other boards, at the same time and choice."""
    return {
        "title": "Drizzle",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }


def _built_in() -> Json:
    return {
        "name": "Annotations & Alerts",
        "type": "dashboard",
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }


def _annotation(one: Annotation) -> Json:
    return {
        "name": one.name,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": one.colour,
        "expr": one.expr,
        "step": "5s",
        # Newer releases of Grafana's Prometheus plugin keep the query here.
        "target": {"refId": "Anno", "expr": one.expr, "interval": "5s"},
        "titleFormat": one.title,
        "textFormat": "",
        "tagKeys": "job",
        "useValueForTime": False,
    }


def _variable(one: Variable) -> Json:
    query = f"label_values({one.metric}, {one.name})"
    return {
        "name": one.name,
        "label": one.label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery", "qryType": 1},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }
