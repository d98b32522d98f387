"""The documents as tests read them: pages, their blocks of code, tables and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STREAMS = ROOT / "services" / "drizzle_streams"

_FENCE = re.compile(
    r"""(?:^<!--[ ](?P<mark>[^>\n]+)[ ]-->\n)?
        ^```(?P<kind>\w*)\n (?P<code>.*?) ^```$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Code:
    """A block of code; `mark` is the HTML comment right before it, as (name, value)."""

    page: str
    line: int
    kind: str
    mark: tuple[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every document for people."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(found)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def codes(page: Path, kind: str | None = None) -> list[Code]:
    """The blocks of a page, of one kind or all, in order."""
    text = page.read_text()
    found: list[Code] = []
    for match in _FENCE.finditer(text):
        mark, _, value = (match["mark"] or "").partition(":")
        line = text.count("\n", 0, match.start("code"))
        found.append(Code(name(page), line, match["kind"], (mark.strip(), value.strip()), match["code"]))
    return [code for code in found if kind is None or code.kind == kind]


def prose(page: Path) -> str:
    """The page without its blocks of code, line for line."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())


def links(page: Path) -> list[str]:
    """Targets of the links of a page."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have where Markdown is shown on the web."""
    return {anchor(heading) for heading in _HEADING.findall(prose(page))}


def anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def quoted(page: Path) -> list[str]:
    """What stands in backticks in the text of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def rows(page: Path, heading: str) -> Iterator[list[str]]:
    """The cells of the table under a heading, head and rule left out."""
    section = re.split(rf"^#+ {re.escape(heading)}$", page.read_text(), maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]
