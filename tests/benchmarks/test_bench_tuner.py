"""The benchmark of group sizes: which sizes keep a promise, and what is claimed of the rows."""

from __future__ import annotations

import pytest

from drizzle_benchmarks.plots import plot_losses
from drizzle_benchmarks.tuner import Setting, _claims

SETTING = Setting(20, 1_000)


def row(mode: str, size: int, loss: float, best: float = 0.01) -> dict[str, object]:
    return {"mode": mode, "setting": "s", "group_size": size, "loss": loss, "best_fixed_loss": best}


def test_what_is_launched_ahead_counts_against_the_promise() -> None:
    assert (SETTING.size_max, Setting(50, 100).size_max) == (35, 1)


@pytest.mark.parametrize(("loss", "holds"), [(0.012, True), (0.013, False)])
def test_the_model_is_held_against_the_best_fixed_size(loss: float, holds: bool) -> None:
    (claim,) = _claims([row("fixed", 2, 0.01), row("aimd", 3, 0.5), row("model", 30, loss)])
    assert (claim.measured, claim.holds) == (pytest.approx(loss / 0.01), holds)


def test_without_any_loss_nothing_is_claimed_to_hold() -> None:
    (claim,) = _claims([row("model", 30, 0.0, best=0.0)])
    assert not claim.holds


def test_losses_are_drawn(tmp_path) -> None:
    picture = tmp_path / "losses.png"
    plot_losses([row("fixed", 2, 0.02), row("fixed", 20, 0.01), row("model", 20, 0.01)], picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
