import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.link import sender as sender_module
from agent.link.pace import ROWS_BEGIN
from agent.outbox.rows import Row
from runtime.mqtt import Limits
from runtime.sqlite import StorageError
from schemas.identity import Lane
from schemas.messages import Ack, LaneAck
from tests.link.senders import WAIT_S, Rig, draft, events

EVENT, ALERT, SAMPLE = Lane.EVENT, Lane.ALERT, Lane.SAMPLE


def with_rig(
    tmp_path: Path,
    scenario: Callable[[Rig], Awaitable[None]],
    *,
    resend_after_s: float = 60.0,
    limits: Limits | None = None,
) -> None:
    async def main() -> None:
        rig = Rig(tmp_path, resend_after_s=resend_after_s, limits=limits)
        async with asyncio.timeout(WAIT_S):
            await scenario(rig)
        await rig.close()

    asyncio.run(main())


def test_each_row_is_published_once_and_in_order_while_answers_come(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.settle()
        for n in range(1, 31):
            await rig.append(EVENT if n % 3 else ALERT, 1)
            await rig.settle()
            await rig.answer(*((EVENT, (1, n)) if n % 3 else (ALERT, (1, n))))
        assert Counter(wire.rows) == Counter(
            {(EVENT, n): 1 for n in range(1, 21)} | {(ALERT, n): 1 for n in range(1, 11)}
        )
        for lane in (EVENT, ALERT):
            seqs = [seq for key, seq in wire.rows if key is lane]
            assert seqs == sorted(seqs)
        assert rig.pending(EVENT) == rig.pending(ALERT) == []
        assert rig.sender.state()["answered_total"] == rig.sender.state()["published_total"] == 30
        assert not rig.sender.waiting()

    with_rig(tmp_path, scenario)


def test_a_committed_row_leaves_in_the_same_turn_when_nothing_waits(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        wire = await rig.connect()
        await rig.append(EVENT, 1)
        await rig.settle()
        seen: list[int] = []
        committed = rig.outbox.on_committed

        def watch(rows: list[Row]) -> None:
            committed(rows)
            seen.append(len(wire.rows))

        rig.outbox.on_committed = watch
        await rig.append(EVENT, 1)
        assert seen == [2]

    with_rig(tmp_path, scenario)


def test_what_happens_now_overtakes_a_backlog_of_its_own_lane_too(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.append(EVENT, 1500)
        rig.sender.coordinator(True)
        wire = await rig.connect()
        answered = 0

        async def answer_all() -> None:
            nonlocal answered
            new, answered = wire.rows[answered:], len(wire.rows)
            for lane, seq in new:
                await rig.answer(lane, (seq, seq))

        while len(wire.rows) <= 100:
            rig.puback()
            await answer_all()
            await asyncio.sleep(0.001)
        before = len(wire.rows)
        for _ in range(20):
            await rig.append(EVENT, 1)
        await rig.append(ALERT, 1)
        assert wire.rows.index((ALERT, 1)) < before + 300
        while len(wire.rows) < 1521:
            rig.puback()
            await answer_all()
            await asyncio.sleep(0.001)
        seqs = [seq for lane, seq in wire.rows if lane is EVENT]
        assert sorted(seqs) == list(range(1, 1521))
        assert seqs.index(1501) < 1000
        # Each of the two in the order of its numbers.
        assert [seq for seq in seqs if seq <= 1500] == list(range(1, 1501))
        assert [seq for seq in seqs if seq > 1500] == list(range(1501, 1521))

    with_rig(tmp_path, scenario)


def test_a_backlog_is_not_poured_out_faster_than_it_is_answered(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.append(EVENT, 3000)
        await rig.append(SAMPLE, 5000)
        rig.sender.coordinator(True)
        wire = await rig.connect()
        for _ in range(40):
            rig.puback()
            await asyncio.sleep(0.005)
        assert len(wire.rows) == ROWS_BEGIN  # nobody has answered yet

        seen, most = 0, 0
        while len(wire.rows) < 8000:
            rig.puback()
            new, seen = wire.rows[seen:], len(wire.rows)
            for lane in (EVENT, SAMPLE):
                seqs = [(seq, seq) for key, seq in new if key is lane]
                if seqs:
                    await rig.answer(lane, *seqs)
            most = max(most, rig.sender.state()["backlog_rows_allowed"])
            await asyncio.sleep(0.001)
        assert most > 1000  # it went faster as the answers came in time
        assert sorted(wire.rows, key=str) == sorted(
            [(EVENT, n) for n in range(1, 3001)] + [(SAMPLE, n) for n in range(1, 5001)], key=str
        )

    with_rig(tmp_path, scenario)


def test_a_new_connection_resends_what_is_unanswered_and_only_that(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        first = await rig.connect()
        await rig.append(EVENT, 10)
        await rig.settle()
        await rig.answer(EVENT, (1, 4), (7, 7))
        await rig.lose()
        await rig.append(EVENT, 2)
        second = await rig.connect()
        await rig.until(lambda: len(second.rows) >= 2, "nothing is sent again")
        assert first.rows == events(*range(1, 11))
        assert second.rows == events(5, 6)  # few at first
        await rig.answer(EVENT, (5, 6))
        await rig.until(lambda: len(second.rows) >= 6, "no more for what was answered")
        await rig.answer(EVENT, (8, 9))
        await rig.settle()
        assert second.rows == events(5, 6, 8, 9, 10, 11, 12)
        payloads = {key[0]: m.payload for key, m in zip(first.keys, first.published, strict=True)}
        assert second.published[0].payload == payloads[EVENT, 5]

    with_rig(tmp_path, scenario)


def test_without_a_coordinator_rows_go_out_once_and_again_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        wire = await rig.connect()
        await rig.append(EVENT, 20)
        await rig.settle()
        await asyncio.sleep(0.3)  # three times what would be overdue
        await rig.settle()
        assert wire.rows == events(*range(1, 21))
        rig.sender.coordinator(True)
        await rig.until(lambda: len(wire.rows) >= 20 + ROWS_BEGIN, "nothing is sent again")
        while rig.pending(EVENT):
            await rig.answer(EVENT, *((seq, seq) for _, seq in wire.rows[20:]))
            await asyncio.sleep(0.001)
        assert wire.rows[20:40] == events(*range(1, 21))
        assert rig.pending(EVENT) == []

    with_rig(tmp_path, scenario, resend_after_s=0.1)


def test_the_first_answer_of_a_coordinator_nobody_announced_counts(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        wire = await rig.connect()
        await rig.append(EVENT, 5)
        await rig.settle()
        await rig.answer(EVENT, (1, 3))
        assert rig.pending(EVENT) == [4, 5]
        await rig.settle()
        assert wire.rows == events(1, 2, 3, 4, 5, 4, 5)

    with_rig(tmp_path, scenario)


def test_a_coordinator_that_comes_back_while_the_file_is_read_gets_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.append(EVENT, 450)
        wire = await rig.connect()
        take = rig.file.take
        marks: list[int] = []

        async def comes_back() -> None:
            marks.append(len(wire.rows))
            rig.sender.coordinator(True)

        def take_and_meanwhile(lane: Lane, after_seq: int, count_max: int) -> list[Row]:
            rows = take(lane, after_seq, count_max)
            if lane is EVENT and after_seq > 200 and not marks:
                asyncio.run_coroutine_threadsafe(comes_back(), rig.outbox._loop).result(WAIT_S)
            return rows

        monkeypatch.setattr(rig.file, "take", take_and_meanwhile)
        await rig.until(lambda: bool(marks), "the backlog does not move")
        assert marks[0] > 200
        while len(again := set(wire.rows[marks[0] :])) < 450:  # what was sent before is sent again
            rig.puback()
            await rig.answer(EVENT, *((seq, seq) for _, seq in again))
            await asyncio.sleep(0.001)

    with_rig(tmp_path, scenario)


def test_what_is_overdue_is_sent_again_and_the_rest_is_not(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.append(EVENT, 6)
        await rig.settle()
        await rig.answer(EVENT, (1, 2), (4, 6))
        await rig.until(lambda: len(wire.rows) > 6, "nothing was sent again")
        assert set(wire.rows[6:]) == {(EVENT, 3)}
        assert rig.sender.resent_total >= 1
        await rig.answer(EVENT, (3, 3))
        assert rig.pending(EVENT) == []

    with_rig(tmp_path, scenario, resend_after_s=0.3)


def test_a_late_answer_frees_the_row_before_it_is_sent_again(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.append(EVENT, 6)
        await rig.settle()
        resting = "open"  # the coordinator has not answered for so long that the backlog rests
        await rig.until(lambda: rig.sender.state()["breaker"] == resting, "the breaker does not open")
        before = len(wire.rows)
        await rig.answer(EVENT, (1, 6))
        await rig.settle()
        assert (rig.pending(EVENT), len(wire.rows)) == ([], before)

    with_rig(tmp_path, scenario, resend_after_s=0.1)


@pytest.mark.parametrize("receive_max", [1, 2, 20, 65535])
def test_no_more_is_under_way_than_half_of_what_the_broker_allows(tmp_path: Path, receive_max: int) -> None:
    async def scenario(rig: Rig) -> None:
        wire = await rig.connect()
        await rig.append(EVENT, 130)
        allowed = max(1, min(100, receive_max // 2))
        while len(wire.rows) < 130:
            await asyncio.sleep(0.002)
            assert len(wire.unacked) <= allowed
            if len(wire.unacked) == allowed or len(wire.rows) == 130:
                rig.puback(7)
        assert wire.inflight_most == allowed
        assert wire.rows == events(*range(1, 131))

    with_rig(tmp_path, scenario, limits=Limits(receive_max=receive_max))


def test_a_refused_row_is_set_aside_and_blocks_nobody(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.append(EVENT, 5)
        await rig.settle()
        await rig.refuse(EVENT, 2)
        await rig.refuse(EVENT, 99)  # never sent: means nothing
        await rig.answer(EVENT, (1, 1), (3, 5))
        await rig.append(EVENT, 1)
        await rig.settle()
        assert wire.rows == events(1, 2, 3, 4, 5, 6)
        assert rig.pending(EVENT) == [6]
        of_lane = next(a for a in rig.file.account() if a.lane == "event")
        assert (of_lane.produced, of_lane.stored, of_lane.quarantined, of_lane.pending) == (6, 4, 1, 1)
        assert rig.sender.state()["refused_total"] == 1

    with_rig(tmp_path, scenario)


def test_what_the_broker_never_takes_is_set_aside(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        for lane in (EVENT, SAMPLE):
            await rig.outbox.append([draft(lane, "small"), draft(lane, "x" * 20_000), draft(lane, "small")])
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.until(lambda: len(wire.rows) >= 2, "the small ones do not pass")
        for lane in (EVENT, SAMPLE):
            await rig.answer(lane, (1, 1))
        await rig.until(lambda: len(wire.rows) == 4, "the small ones do not pass")
        assert sorted((lane.value, seq) for lane, seq in wire.rows) == [
            ("event", 1), ("event", 3), ("sample", 1), ("sample", 3),
        ]  # fmt: skip
        await rig.until(lambda: sum(a.quarantined for a in rig.file.account()) == 2, "not set aside")
        assert all(len(message.payload) < 10_000 for message in wire.published)

    with_rig(tmp_path, scenario, limits=Limits(packet_bytes_max=10_000))


def test_batches_keep_to_the_size_of_a_message(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.append(SAMPLE, 12, "x" * 100_000)
        await rig.append(SAMPLE, 1100)
        rig.sender.coordinator(True)
        wire = await rig.connect()
        while len(wire.rows) < 1112:  # the wire checks the size
            rig.puback()
            await rig.answer(SAMPLE, (1, 2000))
            await asyncio.sleep(0.001)
        assert wire.rows == [(SAMPLE, seq) for seq in range(1, 1113)]
        assert max(map(len, wire.keys)) <= 500
        assert len(wire.keys) < 12

    with_rig(tmp_path, scenario)


def test_one_lane_of_batches_does_not_hold_up_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "BATCH_LINGER_S", 3600.0)

    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.settle()
        await rig.append(Lane.STATE, 3)
        await rig.append(SAMPLE, 3)
        await rig.until(lambda: len(wire.rows) == 6, "a lane waits for the other")

    with_rig(tmp_path, scenario)


def test_an_answer_that_cannot_be_kept_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.append(EVENT, ROWS_BEGIN)
        await rig.settle()

        def full(answered: object) -> None:
            raise StorageError("disk full")

        with monkeypatch.context() as patch, pytest.raises(StorageError):
            patch.setattr(rig.file, "acknowledge", full)
            await rig.answer(EVENT, (1, ROWS_BEGIN))
        await rig.until(lambda: len(wire.rows) >= 2 * ROWS_BEGIN, "the rows are not sent again")
        await rig.answer(EVENT, (1, ROWS_BEGIN))
        assert rig.pending(EVENT) == []

    with_rig(tmp_path, scenario)


def test_answers_of_another_stream_or_lane_change_nothing(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        await rig.connect()
        await rig.append(EVENT, 3)
        await rig.settle()
        for stream, lane in (("0123456789abcdef", "event"), (rig.file.stream, "alert"), (rig.file.stream, "none")):
            await rig.sender.answer(Ack(stored=[LaneAck(stream, lane, [(0, 2**62)])]))
        await rig.answer(EVENT, (4, 2**62), (3, 1))
        assert rig.pending(EVENT) == [1, 2, 3]
        await rig.answer(EVENT, (0, 2**62))
        assert rig.pending(EVENT) == []

    with_rig(tmp_path, scenario)


def test_samples_that_fill_several_messages_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "BATCH_LINGER_S", 3600.0)

    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        wire = await rig.connect()
        await rig.settle()
        await rig.append(SAMPLE, 20, "x" * 2000)
        await rig.until(lambda: len(wire.rows) == 20, "the rest waits for the next batch")
        assert wire.rows == [(SAMPLE, seq) for seq in range(1, 21)]
        assert len(wire.keys) >= 5

    with_rig(tmp_path, scenario, limits=Limits(packet_bytes_max=10_000))


def test_answers_that_come_together_are_all_counted(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        await rig.connect()
        await rig.append(EVENT, 50)
        await rig.until(lambda: len(rig.wire.rows) == 50, "not sent")
        await asyncio.gather(*(rig.answer(EVENT, (seq, seq)) for seq in range(1, 51)))
        assert rig.sender.state()["answered_total"] == 50

    with_rig(tmp_path, scenario)


def test_at_rest_alerts_and_events_go_on_and_the_backlog_and_batches_wait(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.sender.coordinator(True)
        await rig.append(EVENT, ROWS_BEGIN)
        wire = await rig.connect()
        await rig.until(lambda: len(wire.rows) == ROWS_BEGIN, "not sent")
        assert not rig.sender.is_settled
        rig.sender.rest()
        await rig.append(ALERT, 1)
        await rig.append(SAMPLE, 600)  # more than memory keeps, and than a message holds
        await rig.answer(EVENT, (1, ROWS_BEGIN))
        await rig.answer(ALERT, (1, 1))
        await rig.until(lambda: rig.sender.is_settled, "does not come to rest")
        assert wire.rows == [*events(*range(1, ROWS_BEGIN + 1)), (ALERT, 1)]
        await rig.lose()
        again = await rig.connect()
        await rig.until(lambda: len(again.rows) >= ROWS_BEGIN, "rests for ever")

    with_rig(tmp_path, scenario)


def test_silence_counts_from_the_question_and_ends_with_the_answer(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        answered: list[bool] = []
        await rig.connect()
        await rig.settle()
        assert rig.sender.silent_s() == 0.0
        await rig.append(EVENT, 2)
        await rig.until(lambda: rig.sender.silent_s() > 0.0, "nobody is missed")
        answered.append(rig.sender.is_answered)
        await rig.answer(EVENT, (1, 1), (2, 2))
        assert rig.sender.silent_s() == 0.0
        answered.append(rig.sender.is_answered)
        await rig.lose()
        rig.sender.coordinator(False)
        await rig.append(SAMPLE, 1)  # not even published where nobody would answer
        await rig.connect()
        await rig.until(lambda: rig.sender.silent_s() > 0.0, "nobody is missed")
        answered.append(rig.sender.is_answered)
        assert rig.wire.rows == []
        assert answered == [False, True, False]

    with_rig(tmp_path, scenario)
