"""The examples are jobs that do what they say."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import drizzle_streams as dz

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def only_job(name: str) -> dz.Job:
    (job,) = dz.load_jobs(EXAMPLES / name)
    return job


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"ysb.py", "word_count.py", "clean_orders.py"}


def test_ysb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ads = tmp_path / "ads.parquet"
    pl.DataFrame({"ad_id": ["a", "b", "c"], "campaign_id": ["x", "x", "y"]}).write_parquet(ads)
    monkeypatch.setenv("YSB_ADS", str(ads))
    seen = [("a", "view"), ("b", "view"), ("b", "click"), ("c", "view"), ("unknown", "view")]
    events = [
        {
            "user_id": "u",
            "page_id": "p",
            "ad_id": ad,
            "ad_type": "mail",
            "event_type": kind,
            "event_time": "12000",
        }
        for ad, kind in seen
    ]
    result = dz.testing.run(only_job("ysb.py"), [events, dz.testing.crash(), events])
    assert result.rows.rows() == [(10_000, 20_000, "x", 4), (10_000, 20_000, "y", 2)]
    assert result.rows.columns == ["window_start", "window_end", "campaign_id", "clicks"]


def test_word_count() -> None:
    batches = [
        [{"word": word, "said_at": at} for at, word in enumerate(line.split(), start=start)]
        for start, line in ((100, "To be, or not to be:"), (0, "that is the question. Be!"))
    ]
    result = dz.testing.run(only_job("word_count.py"), batches)
    found = {row["word"]: row for row in result.rows.to_dicts()}
    assert {word: row["times"] for word, row in found.items()} == {
        "to": 2,
        "be": 3,
        "or": 1,
        "not": 1,
        "that": 1,
        "is": 1,
        "the": 1,
        "question": 1,
    }
    assert found["be"] == {"word": "be", "times": 3, "characters": 6, "first_at": 4, "last_at": 105}


def test_clean_orders() -> None:
    orders = [
        {"order_id": 1, "status": "paid", "amount": "10.5", "currency": "EUR"},
        {"order_id": 2, "status": "open", "amount": 10, "currency": "EUR"},
        {"order_id": 3, "status": "paid", "amount": 2000, "currency": "USD"},
        {"order_id": 4, "status": "paid", "amount": 1, "currency": "XXX"},
        {"order_id": 5, "status": "paid", "amount": "much", "currency": "EUR"},
    ]
    result = dz.testing.run(only_job("clean_orders.py"), [orders])
    assert result.rows.sort("order_id").rows() == [(1, "EUR", 10.5, False), (3, "USD", 1840.0, True)]
    assert [letter.reason for letter in result.dead_letters] == [
        "column 'amount': wanted Float64, found 'much'"
    ]
