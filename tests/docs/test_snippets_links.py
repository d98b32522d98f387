"""What the documents point to is there: pages, headings, files, modules, constants."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, STREAMS, anchors, links, name, pages, quoted

PLACES = (ROOT, STREAMS, ROOT / "loadgen" / "drizzle_loadgen")
_PATH = re.compile(r"\.?[\w-]+(?:/[\w.-]+)*(?:/|\.(?:py|pyi|md|toml|lua|json|txt|parquet|ndjson))")
_NOT_OURS = {"job.py", "ads.parquet", "events.ndjson", "FILE"}
_CONSTANT = re.compile(r"[A-Z]+(?:_[A-Z]+)+")


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, links(page)) == []


def broken(page: Path, targets: list[str]) -> list[str]:
    """The links that lead to no file or heading; the web is not asked."""
    return [target for target in targets if not target.startswith("https://") and not leads(page, target)]


def leads(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    return there.exists() and (not anchor or anchor in anchors(there))


def test_a_broken_link_is_found() -> None:
    page = ROOT / "docs" / "safety.md"
    wrong = ["nowhere.md", "glossary.md#nothing", "#nothing"]
    assert broken(page, [*wrong, "#limits", "glossary.md#messages", "https://example.org"]) == wrong


@pytest.mark.parametrize("page", pages(), ids=name)
def test_paths_in_the_text_exist(page: Path) -> None:
    paths = [text for text in quoted(page) if _PATH.fullmatch(text) and text not in _NOT_OURS]
    missing = [path for path in paths if not any((place / path).exists() for place in (*PLACES, page.parent))]
    assert missing == []


@pytest.mark.parametrize("page", pages(), ids=name)
def test_constants_and_settings_in_the_text_exist(page: Path) -> None:
    """Names in capitals are constants of the code; those that start with DRIZZLE_ or in .env are settings."""
    code = "\n".join(path.read_text() for path in STREAMS.rglob("*.py"))
    settings = {f"DRIZZLE_{field.upper()}" for field in re.findall(r"^    (\w+): ", code, re.MULTILINE)}
    settings |= set(re.findall(r"^#(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    names = [text for text in quoted(page) if _CONSTANT.fullmatch(text)]
    missing = [one for one in names if one not in settings and not re.search(rf"\b{one}\b", code)]
    assert missing == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = [target.partition("#")[0] for target in links(page)]
        waiting += [(page.parent / path).resolve() for path in targets if path and "://" not in path]
    assert {name(page) for page in pages()} == {name(page) for page in seen}


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(version)
    assert any(heading.startswith(version) for heading in headings)
