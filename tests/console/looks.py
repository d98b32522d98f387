"""What a person with other eyes needs, measured in a page: contrast and names."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

CONTRAST_MIN = 4.5
"""WCAG 2.2, 1.4.3, for text of ordinary size; all text is held to it."""

_CONTRASTS = """() => {
  const parse = (text) => {
    const [r, g, b, opacity = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, opacity];
  };
  const lum = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const f = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2];
  };
  const ratio = (a, b) => {
    const [light, dark] = [lum(parse(a)), lum(parse(b))].sort((p, q) => q - p);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parse(colour)[3] === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  const note = (node, colour, ground) =>
    found.push([ratio(colour, ground), node.tagName, String(node.className), node.textContent.slice(0, 40)]);
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const shown = node.checkVisibility({ checkOpacity: true }) && !node.closest("svg, noscript, option");
    if (own && shown) note(node, getComputedStyle(node).color, behind(node));
  }
  const fill = (node) => getComputedStyle(node).fill;
  for (const text of document.querySelectorAll("svg .letter")) {
    note(text, fill(text), fill(text.previousElementSibling));
  }
  for (const text of document.querySelectorAll("svg .name, svg .note")) {
    note(text, fill(text), fill(text.parentElement.querySelector("rect")));
  }
  return found;
}"""

_NAMED_ROLES = frozenset(
    {"button", "combobox", "img", "image", "link", "progressbar", "searchbox", "textbox", "listbox", "region"}
)


def contrasts(page: Page) -> list[tuple[float, str, str, str]]:
    """(ratio, element, class, text) of every text that is shown."""
    return [tuple(row) for row in page.evaluate(_CONTRASTS)]


def unnamed(page: Page) -> list[str]:
    """Controls and pictures that a screen reader could say nothing about; raises if there are none at all."""
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    asked = [node for node in nodes if not node.get("ignored") and _wants_name(node)]
    assert asked, "a page without any control"
    return [str(node) for node in asked if not str(node.get("name", {}).get("value", "")).strip()]


def _wants_name(node: dict[str, Any]) -> bool:
    focusable = any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", ()))
    role = node.get("role", {}).get("value", "")
    return role in _NAMED_ROLES or (focusable and role not in ("RootWebArea", "main"))


def overflow(page: Page) -> int:
    """CSS pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
