"""Leases: evidence is not a verdict, and a lost worker stays lost."""

from __future__ import annotations

from drizzle_streams.core import membership as ms
from drizzle_streams.core.membership import Membership
from drizzle_streams.model.ids import NodeId

W, S = NodeId("w1"), NodeId("s1")


def joined() -> Membership:
    members = Membership(lease_s=2.0)
    assert members.join(W, "http://w", is_worker=True, size=2, now=0.0)
    assert members.join(S, "http://s", is_worker=False, size=4, now=0.0)
    return members


def test_a_lease_is_renewed_by_any_word() -> None:
    members = joined()
    assert members.renew(S, 0.0, 1.0)
    members.heard(W, 1.5)
    assert members.expired(2.5) == []
    assert members.expired(3.2) == [S]
    assert members.next_deadline() == 3.0


def test_a_suspicion_is_not_a_verdict_and_a_heartbeat_clears_it() -> None:
    members = joined()
    assert members.suspect(W)
    assert not members.suspect(W), "only the first one is news"
    assert members.members[W].suspected
    assert members.expired(1.9) == []
    members.renew(W, 0.3, 1.9)
    assert not members.members[W].suspected


def test_a_lost_worker_is_remembered_and_a_lost_source_is_not() -> None:
    members = joined()
    assert members.lose(W)
    assert members.lose(S)
    assert not members.lose(W)
    assert members.is_lost(W)
    assert not members.is_lost(S)
    assert members.was_source(S)
    assert not members.renew(W, 0.0, 1.0)


def test_what_is_remembered_of_the_lost_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(ms, "LOST_REMEMBERED_MAX", 3)
    members = Membership(lease_s=2.0)
    for i in range(5):
        members.join(NodeId(f"w{i}"), "a", is_worker=True, size=1, now=0.0)
        members.lose(NodeId(f"w{i}"))
    assert [members.is_lost(NodeId(f"w{i}")) for i in range(5)] == [False, False, True, True, True]


def test_joining_again_at_another_address_is_news() -> None:
    members = joined()
    assert not members.join(S, "http://s", is_worker=False, size=4, now=1.0)
    assert members.join(S, "http://elsewhere", is_worker=False, size=4, now=1.0)
