"""The console in a real Chromium, on a real cluster: signing in, looking, and what an outage looks like."""

from __future__ import annotations

import re
from urllib.error import URLError

import pytest
from playwright.sync_api import Page, expect

from tests.cluster.drizzle_commands import until
from tests.console.browser import DESKTOP, PHONE, WAIT_MS, Scheme, Windows
from tests.console.conftest import Watchable
from tests.console.looks import CONTRAST_MIN, contrasts, overflow, unnamed
from tests.docs.pages import ROOT, rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
expect.set_options(timeout=WAIT_MS)

GLOSSARY = ROOT / "docs" / "glossary.md"
REFUSED = "the server responded with a status of 401"


def complaints_but_refusals(windows: Windows) -> None:
    """Whoever is not signed in is answered with 401, and Chromium says so: nothing else is forgiven."""
    windows.watched.complaints[:] = [text for text in windows.watched.complaints if REFUSED not in text]


def live(page: Page) -> Page:
    """Once it shows the job."""
    expect(page.locator("#link-state")).to_have_text("● Live")
    expect(page.locator("#job-name")).to_have_text("count")
    return page


def points(page: Page) -> int:
    """Batches that are drawn."""
    return int(page.locator("#latency").get_attribute("data-points") or 0)


def has_drawn(page: Page, more_than: int) -> None:
    # The page's policy forbids evaluating strings, which playwright's own wait for a condition does.
    until(f"more than {more_than} batches are drawn", lambda: points(page) > more_than)


def drawn(page: Page) -> str:
    return page.evaluate("document.querySelector('#latency canvas').toDataURL()")


def stands_by(cluster: Watchable) -> bool:
    try:
        return cluster.doors.send("coordinator", "/readyz")[0] == 503
    except URLError:
        return False


# --- signing in --------------------------------------------------------------------------------


def test_a_link_signs_in_and_does_not_stay_in_the_address(cluster: Watchable, windows: Windows) -> None:
    page = live(windows.open(cluster.link()))
    assert page.url == f"{cluster.doors.address('coordinator')}/"
    (cookie,) = page.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""


def test_who_has_no_session_signs_in_with_the_secret_and_out_again(
    cluster: Watchable, windows: Windows
) -> None:
    page = windows.open(cluster.doors.address("coordinator"))
    page.get_by_label("Cluster secret or user token").fill("not the secret of it")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("neither this cluster’s secret")
    assert unnamed(page) == []
    page.get_by_label("Cluster secret or user token").fill(cluster.secret)
    page.get_by_role("button", name="Sign in").click()
    live(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Cluster secret or user token")).to_be_visible()
    complaints_but_refusals(windows)


def test_a_link_with_another_signature_opens_nothing(cluster: Watchable, windows: Windows) -> None:
    page = windows.open(cluster.link()[:-4] + "AAAA")
    expect(page.get_by_role("alert")).to_contain_text("not valid any more")
    assert page.context.cookies() == []
    complaints_but_refusals(windows)


def test_a_session_that_ends_while_somebody_looks_is_said(cluster: Watchable, windows: Windows) -> None:
    page = live(windows.open(cluster.link()))
    page.context.clear_cookies()
    page.evaluate("location.hash = 'count'")  # asks for another stream
    expect(page.locator("#link-state")).to_have_text("✕ Signed out")
    page.get_by_role("link", name="Sign in again").click()
    expect(page.get_by_label("Cluster secret or user token")).to_be_visible()
    complaints_but_refusals(windows)


# --- looking -----------------------------------------------------------------------------------


def test_workers_stages_and_the_tuned_group_size_are_shown(cluster: Watchable, windows: Windows) -> None:
    page = live(windows.open(cluster.link()))
    for worker in cluster.workers():
        row = page.locator(f"#workers [data-worker='{worker}']")
        expect(row).to_contain_text("alive")
        expect(row).to_contain_text(re.compile(r"Partitions of stage 0: \d"))
    expect(page.locator("#sources")).to_contain_text("source-1")
    expect(page.locator("#stages svg")).to_have_attribute("aria-label", re.compile("reads stream words"))
    assert page.locator("#stages .nobody").count() == 0
    expect(page.locator("#group-band")).to_have_attribute("aria-label", re.compile(r"Groups of \d+; from"))
    expect(page.locator("#group-now")).to_contain_text(re.compile(r"\d+ batches · "))


def test_latency_goes_on_being_drawn(cluster: Watchable, windows: Windows) -> None:
    page = live(windows.open(cluster.link()))
    has_drawn(page, 0)
    seen, picture = points(page), drawn(page)
    frontier = page.locator("#tiles > div", has_text="Frontier").locator(".figure").inner_text()
    has_drawn(page, seen + 20)
    assert drawn(page) != picture
    assert page.locator("#tiles > div", has_text="Frontier").locator(".figure").inner_text() != frontier
    assert page.locator("#why .batch").count() > 3
    feeds = [url for url in windows.watched.asked if "/console/feed" in url]
    assert len(feeds) == 1, "one stream of events, and no polling beside it"


def test_the_timeline_can_be_paused_and_ordered(cluster: Watchable, windows: Windows) -> None:
    page = live(windows.open(cluster.link()))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
    numbers = page.locator("#why .number")
    shown = numbers.all_inner_texts()
    has_drawn(page, points(page) + 20)
    assert numbers.all_inner_texts() == shown
    page.get_by_role("button", name="Go on").click()
    expect(numbers.first).not_to_have_text(shown[0])
    page.get_by_label("Show").select_option("slowest")
    expect(page.locator("#why-how")).to_contain_text("Bars begin when a batch was due")


# --- for everybody -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_can_be_read_and_has_names(
    cluster: Watchable, windows: Windows, size: tuple[int, int], scheme: Scheme
) -> None:
    page = live(windows.open(cluster.link(), size, scheme))
    page.locator("#group-inputs summary").click()
    has_drawn(page, 0)
    assert overflow(page) == 0
    texts = contrasts(page)
    assert len(texts) > 50
    assert [text for text in texts if text[0] < CONTRAST_MIN] == []
    assert unnamed(page) == []


def test_every_line_that_a_coordinator_tells_is_of_a_kind_that_can_be_chosen(
    cluster: Watchable, windows: Windows
) -> None:
    page = live(windows.open(cluster.link()))
    kinds = [row[0].strip("`") for row in rows(GLOSSARY, "Lines of the story") if row[1] == "coordinator"]
    about = page.evaluate(
        "async (kinds) => kinds.map((await import('/console/page/story.js')).about)",
        kinds,
    )
    assert [kind for kind, found in zip(kinds, about, strict=True) if found == "other"] == []


# --- outages: from here on the cluster is not what it was ---------------------------------------


def test_a_kill_shows_in_what_happened(cluster: Watchable, windows: Windows) -> None:
    page = live(windows.open(cluster.link()))
    (victim,) = [worker for worker in cluster.workers() if worker.startswith("worker-2-")]
    cluster.kill("worker-2")
    line = page.locator("#story [data-kind='WorkerLost']", has_text=victim)
    expect(line).to_contain_text("is lost")
    expect(page.locator(f"#workers [data-worker='{victim}']")).to_contain_text("lost")
    expect(page.locator("#story [data-kind='Recovered']").first).to_be_visible()
    expect(page.locator("#workers .member:not(.gone)")).to_have_count(2)
    page.get_by_label("About").select_option("trouble")
    expect(page.locator("#story .line:not(.trouble)")).to_have_count(0)
    page.get_by_label("Words to find").fill("no such words")
    expect(page.get_by_text("Nothing of that kind.")).to_be_visible()


def test_a_standby_says_who_leads_and_becomes_the_console(cluster: Watchable, windows: Windows) -> None:
    page = windows.open(cluster.link("coordinator-2"), PHONE, "dark")
    leader = cluster.doors.address("coordinator")
    expect(page.get_by_role("link", name=leader)).to_be_visible()
    assert overflow(page) == 0
    assert [text for text in contrasts(page) if text[0] < CONTRAST_MIN] == []
    cluster.kill("coordinator")
    live(page)
    until("the other coordinator stands by", lambda: stands_by(cluster))
    windows.watched.complaints.clear()  # a page that is asked for while nobody answers
