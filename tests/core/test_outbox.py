"""Links: whatever the network does, the role hears every message once and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core import outbox as ob
from drizzle_streams.core.outbox import Outbox
from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.messages import Envelope, Heartbeat, Item, Message, PeerSuspected

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def said(number: int) -> Message:
    return PeerSuspected(A, NodeId(str(number)))


def numbers(messages: tuple[tuple[Message, bool], ...]) -> list[int]:
    return [int(m.peer) for m, _ in messages if isinstance(m, PeerSuspected)]


def hear(box: Outbox, envelope: Envelope, now: float) -> ob.Heard:
    return box.hear(envelope, tuple(False for _ in envelope.items), now)


@given(st.lists(st.sampled_from(["say", "drop", "twice", "pass", "wait"]), max_size=60), st.randoms())
def test_exactly_once_in_order_through_loss_repetition_and_reordering(steps: list[str], random) -> None:
    a, b = Outbox(A, 1), Outbox(B, 1)
    now, count = 0.0, 0
    heard: list[int] = []
    air: list[tuple[Outbox, Envelope]] = []

    def exchange(fate: str) -> None:
        for box, other in ((a, b), (b, a)):
            for _, envelope, _ in box.flush(now):
                if fate != "drop":
                    air.extend([(other, envelope)] * (2 if fate == "twice" else 1))
        random.shuffle(air)
        while air:
            receiver, envelope = air.pop()
            got = hear(receiver, envelope, now)
            if receiver is b:
                heard.extend(numbers(got.messages))

    for step in steps:
        if step == "say":
            a.send(B, said(count))
            count += 1
        now += 1.0 if step == "wait" else 0.01
        exchange(step)
    for _ in range(20):  # calm: repeats get through
        now += ob.RESEND_AFTER_S_MAX
        exchange("pass")
    assert heard == list(range(count))
    assert a.waiting(B) == 0


def test_a_new_life_of_the_peer_starts_a_new_numbering_and_is_told() -> None:
    a, b = Outbox(A, 1), Outbox(B, 1)
    a.send(B, said(0))
    hear(b, a.flush(0.0)[0][1], 0.0)
    b.send(A, said(7))
    assert not hear(a, b.flush(0.0)[0][1], 0.0).restarted
    a.send(B, said(1))  # never arrives at the old life
    a.flush(0.0)
    newer = Outbox(B, 2)
    newer.send(A, said(8))
    got = hear(a, newer.flush(1.0)[0][1], 1.0)
    assert got.restarted
    assert numbers(got.messages) == [8]
    assert a.waiting(B) == 0, "what was said to the old life is dropped: the role decides what to say again"
    a.send(B, said(2))
    assert numbers(hear(newer, a.flush(1.0)[0][1], 1.0).messages) == [2]


def test_an_older_life_is_not_heard() -> None:
    a = Outbox(A, 1)
    new, old = Outbox(B, 2), Outbox(B, 1)
    for box, number in ((new, 1), (old, 2)):
        box.send(A, said(number))
    assert numbers(hear(a, new.flush(0.0)[0][1], 0.0).messages) == [1]
    assert hear(a, old.flush(0.0)[0][1], 0.0).messages == ()


def test_heartbeats_are_said_once_and_not_repeated() -> None:
    a = Outbox(A, 1)
    a.send(B, Heartbeat(A, 0.1), once=True)
    assert len(a.flush(0.0)) == 1
    assert a.next_deadline() is None


def test_repeats_back_off_to_a_bound() -> None:
    a = Outbox(A, 1)
    a.send(B, said(0))
    a.flush(0.0)
    gaps, resent, now = [], 0, 0.0
    for _ in range(6):
        deadline = a.next_deadline()
        assert deadline is not None
        gaps.append(deadline - now)
        now = deadline
        ((_, envelope, again),) = a.flush(now)
        assert len(envelope.items) == 1
        resent += again
    assert gaps == sorted(gaps)
    assert gaps[-1] <= ob.RESEND_AFTER_S_MAX
    assert resent == 6


def test_a_silent_peer_costs_bounded_memory(monkeypatch) -> None:
    monkeypatch.setattr(ob, "UNACKED_ITEMS_MAX", 10)
    a, b = Outbox(A, 1), Outbox(B, 1)
    kept = [a.send(B, said(i)) for i in range(11)]
    assert kept == [True] * 10 + [False], "the role is told that what waited was dropped"
    assert numbers(hear(b, a.flush(0.0)[0][1], 0.0).messages) == [10]


def test_what_comes_early_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(ob, "EARLY_ITEMS_MAX", 5)
    a, b = Outbox(A, 1), Outbox(B, 1)
    for i in range(9):
        a.send(B, said(i))
    lost = a.flush(0.0)[0][1]
    for i in range(9, 20):
        a.send(B, said(i))
    assert hear(b, a.flush(0.0)[0][1], 0.0).messages == ()
    assert len(b._links[A].early) == 5
    assert numbers(hear(b, lost, 0.0).messages) == list(range(14))


def test_acknowledgements_ride_on_what_is_said_next() -> None:
    a, b = Outbox(A, 1), Outbox(B, 1)
    a.send(B, said(0))
    hear(b, a.flush(0.0)[0][1], 0.0)
    b.send(A, said(1))
    (envelope,) = [e for _, e, _ in b.flush(0.001)]
    hear(a, envelope, 0.001)
    assert a.waiting(B) == 0
    assert b.flush(5.0)[0][1].items, "only the repeat of its own message is due, no bare acknowledgement"


def looked_at(a: Outbox, monkeypatch) -> list[str]:
    """Who is looked at from now on."""
    looked: list[str] = []
    note = a._note_deadlines
    monkeypatch.setattr(a, "_note_deadlines", lambda node, link: (looked.append(node), note(node, link)))
    return looked


def test_a_turn_looks_only_at_links_that_it_touched(monkeypatch) -> None:
    a = Outbox(A, 1)
    for number in range(100):
        a.send(NodeId(f"n{number}"), said(number))
    assert [str(node) for node, _, _ in a.flush(0.0)] == [f"n{number}" for number in range(100)]
    looked = looked_at(a, monkeypatch)
    a.send(NodeId("n7"), said(7))
    assert [str(node) for node, _, _ in a.flush(0.01)] == ["n7"]
    assert looked == ["n7"]


def test_a_deadline_that_passes_has_only_its_own_link_looked_at(monkeypatch) -> None:
    a = Outbox(A, 1)
    for number in range(30):
        at = number / 1000
        envelope = Envelope(NodeId(f"n{number}"), 1, 1, 0, 0, 0, (Item(1, said(number)),))
        hear(a, envelope, at)
        a.flush(at)
    looked = looked_at(a, monkeypatch)
    for number in range(30):
        due = a.next_deadline()
        assert due == number / 1000 + ob.ACK_DELAY_S
        assert [str(node) for node, _, _ in a.flush(due or 0.0)] == [f"n{number}"]
    assert looked == [f"n{number}" for number in range(30)]
    assert a.next_deadline() is None


def test_who_has_many_links_acknowledges_more_rarely() -> None:
    assert [ob.ack_delay_s(links) for links in (1, 33, 58, 1_000)] == [0.1, 0.1, 0.4, ob.ACK_DELAY_S_MAX]
    a = Outbox(A, 1)
    for number in range(200):
        hear(a, Envelope(NodeId(f"n{number}"), 1, 1, 0, 0, 0, ()), 0.0)
    assert a.flush(0.0) == []
    hear(a, Envelope(B, 1, 1, 0, 0, 0, (Item(1, said(0)),)), 1.0)
    a.flush(1.0)
    due = a.next_deadline()
    assert due == 1.0 + ob.ACK_DELAY_S_MAX
    assert [(node, envelope.ack) for node, envelope, _ in a.flush(due or 0.0)] == [(B, 1)]


def deadlines_after(links: int) -> tuple[list[float], float, int]:
    """When a node looks after each of so many peers has said one thing, a millisecond after the other.

    Also how late the latest acknowledgement left, in seconds, and how many did.
    """
    box, due, acknowledged, latest = Outbox(A, 1), dict[NodeId, float](), 0, 0.0
    for number in range(links):
        other, now = Outbox(NodeId(f"n{number}"), 1), 10.0 + number / 1000.0
        other.send(A, said(number))
        ((_, envelope, _),) = other.flush(now)
        hear(box, envelope, now)
        assert box.flush(now) == []
        due[envelope.sender] = now + ob.ack_delay_s(number + 1)
    looks: list[float] = []
    while (at := box.next_deadline()) is not None and acknowledged < links:
        looks.append(at)
        for to, envelope, _ in box.flush(at):
            assert not envelope.items
            assert at >= due[to]
            acknowledged, latest = acknowledged + 1, max(latest, at - due[to])
    return looks, latest, acknowledged


def test_a_node_of_many_links_looks_at_those_together_that_are_due() -> None:
    looks, latest, acknowledged = deadlines_after(ob.ACK_LINKS_FEW)
    assert (len(looks), acknowledged, latest) == (ob.ACK_LINKS_FEW, ob.ACK_LINKS_FEW, 0.0)
    links = 3 * ob.ACK_LINKS_FEW
    looks, latest, acknowledged = deadlines_after(links)
    assert acknowledged == links
    assert latest <= ob.LOOK_EVERY_S + 1e-9
    # Those that were noted while links were few, and then one look for all of a span.
    span_s = ob.ACK_DELAY_S_MAX + links / 1000.0 + ob.LOOK_EVERY_S
    assert len(looks) <= ob.ACK_LINKS_FEW + span_s / ob.LOOK_EVERY_S


def of_many_links() -> Outbox:
    box = Outbox(A, 1)
    for number in range(ob.ACK_LINKS_FEW + 1):
        hear(box, Envelope(NodeId(f"n{number}"), 1, 1, 0, 0, 0, ()), 0.0)
    box.flush(0.0)
    return box


def left(box: Outbox, now: float) -> list[list[int]]:
    """What left for B, by frames."""
    frames = [envelope.items for to, envelope, _ in box.flush(now) if to == B]
    return [numbers(tuple((item.message, False) for item in items)) for items in frames]


def test_what_may_wait_leaves_along_with_what_is_said_next_and_in_its_order() -> None:
    box = of_many_links()
    box.send(B, said(1), along=True)
    assert left(box, 1.0) == []
    box.send(B, said(2), along=True)
    assert left(box, 1.1) == []
    box.send(B, said(3))
    assert left(box, 1.2) == [[1, 2, 3]]
    assert box.waiting(B) == 3
    box.send(B, said(4), along=True)
    box.send(B, said(5), once=True)
    assert left(box, 1.25) == [[5, 4]]


def test_what_may_wait_leaves_with_an_acknowledgement_or_at_its_bound() -> None:
    box = of_many_links()
    box.send(B, said(1), along=True)
    assert left(box, 1.0) == []
    due = box.next_deadline()
    assert due is not None
    assert 1.0 + ob.ALONG_S_MAX <= due < 1.0 + ob.ALONG_S_MAX + ob.LOOK_EVERY_S
    assert left(box, due) == [[1]]
    hear(box, Envelope(B, 1, 1, 1, 1, 1, (Item(1, said(0)),)), 2.0)
    box.send(B, said(2), along=True)
    assert left(box, 2.0) == []
    assert left(box, 2.0 + ob.ack_delay_s(ob.ACK_LINKS_FEW + 2) + ob.LOOK_EVERY_S) == [[2]]


def test_what_waits_for_company_is_not_repeated_before_it_was_said() -> None:
    """An answer to something else, meanwhile, starts no watch: it would ring again and again in vain."""
    box = of_many_links()
    box.send(B, said(1))
    assert left(box, 1.0) == [[1]]
    box.send(B, said(2), along=True)
    hear(box, Envelope(B, 1, 1, 1, 1, 1, ()), 1.1)
    assert left(box, 1.1) == []
    looks: list[float] = []
    while (due := box.next_deadline()) is not None and box.waiting(B) and len(looks) < 100:
        looks.append(due)
        if left(box, due) == [[2]]:
            break
    assert looks == sorted(set(looks)), "each look is later than the one before"
    assert looks[-1] < 1.1 + ob.ALONG_S_MAX + ob.LOOK_EVERY_S + 1e-9


def test_where_links_are_few_nothing_waits_for_company() -> None:
    box = Outbox(A, 1)
    box.send(B, said(1), along=True)
    assert left(box, 1.0) == [[1]]


def test_what_waits_for_company_goes_with_the_numbering() -> None:
    """The peer began a new life: what it was to be told was for the old one."""
    box = of_many_links()
    hear(box, Envelope(B, 1, 1, 0, 0, 0, ()), 1.0)
    box.send(B, said(1), along=True)
    assert left(box, 1.0) == []
    assert hear(box, Envelope(B, 2, 1, 0, 0, 0, ()), 1.1).restarted
    assert left(box, 5.0) == []
    assert box.waiting(B) == 0


def test_who_is_spoken_to_first_hears_first() -> None:
    a = Outbox(A, 1)
    for first, second in ((B, C), (C, B)):
        a.send(first, said(1))
        a.send(second, said(2))
        assert [node for node, _, _ in a.flush(1.0)] == [first, second]


def test_repeats_leave_apart_from_what_is_new_and_are_marked() -> None:
    a = Outbox(A, 1)
    a.send(B, said(0))
    assert [again for _, _, again in a.flush(0.0)] == [False]
    a.send(B, said(1))
    sent = [([item.seq for item in e.items], again) for _, e, again in a.flush(ob.RESEND_AFTER_S)]
    assert sent == [([1], True), ([2], False)]


def answered_after(
    answer_s: float, a: Outbox, b: Outbox, now: float, resent: list[int] | None = None
) -> float:
    """b hears what a says, with repeats; its answer is here so long after. Returns when that is.

    `resent` is told how many messages were repeated.
    """
    sent = a.flush(now)
    at = now + answer_s
    while (due := a.next_deadline()) is not None and due < at:
        sent += a.flush(due)
    for _, envelope, _ in sent:
        hear(b, envelope, at - ob.ACK_DELAY_S)
    for _, envelope, _ in b.flush(at):
        hear(a, envelope, at)
    if resent is not None:
        resent.append(sum(len(envelope.items) for _, envelope, again in sent if again))
    return at


def test_a_peer_that_is_slow_to_answer_is_soon_told_everything_once() -> None:
    a, b, now = Outbox(A, 1), Outbox(B, 1), 0.0
    resent: list[int] = []
    for number in range(20):
        a.send(B, said(number))
        now = answered_after(1.0, a, b, now, resent)
    assert resent[0] > 0, "nobody knew"
    assert resent[3:] == [0] * 17


def test_nobody_is_waited_for_longer_than_the_bound() -> None:
    a, b, now = Outbox(A, 1), Outbox(B, 1), 0.0
    for number in range(5):
        a.send(B, said(number))
        now = answered_after(60.0, a, b, now)
    a.send(B, said(5))
    a.flush(now)
    assert a.flush(now + ob.RESEND_AFTER_S_MAX)[0][2]


def test_who_answers_fast_again_is_soon_repeated_to_as_soon_as_ever() -> None:
    a, b, now = Outbox(A, 1), Outbox(B, 1), 0.0
    for number in range(40):
        a.send(B, said(number))
        now = answered_after(1.5 if number < 5 else ob.ACK_DELAY_S, a, b, now)
    a.send(B, said(40))
    a.flush(now)
    assert a.flush(now + ob.RESEND_AFTER_S + 0.001)[0][2]


def test_a_network_that_was_cut_is_no_slow_peer() -> None:
    a, b, now = Outbox(A, 1), Outbox(B, 1), 0.0
    a.send(B, said(0))
    a.flush(now)
    for _ in range(4):
        now = a.next_deadline() or now
        assert a.flush(now)[0][2], "lost"
    now = a.next_deadline() or now
    for number in (1, 2):  # the first answer may be to any of the repeats, the second tells
        now = answered_after(ob.ACK_DELAY_S, a, b, now)
        a.send(B, said(number))
    now = answered_after(ob.ACK_DELAY_S, a, b, now)
    a.send(B, said(3))
    a.flush(now)
    assert a.flush(now + ob.RESEND_AFTER_S + 0.001)[0][2]


def in_crowd(members: int) -> tuple[Outbox, Outbox]:
    """Two ends of one link, both told that one of them talks with so many."""
    a, b = Outbox(A, 1), Outbox(B, 1)
    a.crowd(B, members)
    b.crowd(A, members)
    return a, b


def looks_until_acknowledged(a: Outbox, b: Outbox, now: float) -> tuple[float, int]:
    """a says one thing: how long until b's acknowledgement is there, and how much a repeated until then."""
    a.send(B, said(0))
    ((_, envelope, _),) = a.flush(now)
    hear(b, envelope, now)
    assert b.flush(now) == []
    at = b.next_deadline()
    assert at is not None
    repeated = 0
    while (due := a.next_deadline()) is not None and due < at:
        repeated += sum(len(found.items) for _, found, again in a.flush(due) if again)
    ((_, answer, _),) = b.flush(at)
    hear(a, answer, at)
    assert a.waiting(B) == 0
    return at - now, repeated


def test_both_ends_of_a_link_in_a_crowd_spare_it_frames_and_nothing_is_said_twice() -> None:
    a, b = in_crowd(1_000)
    for start in (10.0, 20.0, 30.0):
        assert looks_until_acknowledged(a, b, start) == (ob.ACK_DELAY_IN_CROWD_S_MAX, 0)
    a.send(B, said(1), along=True)
    assert left(a, 40.0) == [], "it has no other link, but its peer has"
    a.send(B, said(2))
    assert left(a, 40.1) == [[1, 2]]


def test_few_are_no_crowd() -> None:
    a, b = in_crowd(ob.ACK_LINKS_FEW)
    took_s, repeated = looks_until_acknowledged(a, b, 10.0)
    assert (round(took_s, 9), repeated) == (ob.ACK_DELAY_S, 0)
    a.send(B, said(1), along=True)
    assert left(a, 20.0) == [[1]]


def test_what_is_lost_in_a_crowd_is_repeated_all_the_same() -> None:
    a, _ = in_crowd(1_000)
    a.send(B, said(1))
    a.flush(10.0)
    due = a.next_deadline()
    assert due is not None
    assert due - 10.0 <= ob.RESEND_AFTER_S_MAX
    ((_, envelope, again),) = a.flush(due)
    assert (numbers(tuple((item.message, False) for item in envelope.items)), again) == ([1], True)


def test_a_crowd_that_is_gone_is_none() -> None:
    a, b = in_crowd(1_000)
    a.crowd(B, 2)
    b.crowd(A, 2)
    took_s, repeated = looks_until_acknowledged(a, b, 10.0)
    assert (round(took_s, 9), repeated) == (ob.ACK_DELAY_S, 0)


def test_envelopes_that_are_joined_are_heard_like_one_after_the_other() -> None:
    a, b, c = Outbox(A, 1), Outbox(B, 1), Outbox(B, 1)
    for number in (0, 1):
        a.send(B, said(number))
    a.send(B, said(100), once=True)
    (first,) = [e for _, e, _ in a.flush(0.0)]
    a.send(B, said(2))
    later = [e for _, e, _ in a.flush(ob.RESEND_AFTER_S)]
    both = first
    for envelope in later:
        joined = ob.joined(both, envelope)
        assert joined is not None
        both = joined
    apart = [n for e in (first, *later) for n in numbers(hear(b, e, 1.0).messages)]
    assert sorted(numbers(hear(c, both, 1.0).messages)) == sorted(apart) == [0, 1, 2, 100]
    assert [e.ack for _, e, _ in b.flush(2.0)] == [e.ack for _, e, _ in c.flush(2.0)]


def test_two_numberings_are_not_joined() -> None:
    a = Outbox(A, 1)
    a.send(B, said(0))
    (first,) = [e for _, e, _ in a.flush(0.0)]
    hear(a, Envelope(B, 1, 1, 1, 1, 0, ()), 0.1)
    hear(a, Envelope(B, 2, 1, 1, 1, 0, ()), 0.2)
    a.send(B, said(1))
    (second,) = [e for _, e, _ in a.flush(0.2)]
    assert ob.joined(first, second) is None
