"""Items reach the loop in order, each once, whatever thread they come from, and a defect costs only its own item."""

import asyncio
import threading

import pytest

from runtime.mailbox import Mailbox


def test_items_of_a_thread_arrive_in_order_and_each_once() -> None:
    async def main() -> list[int]:
        taken: list[int] = []
        mailbox = Mailbox(asyncio.get_running_loop(), taken.append)

        def put() -> None:
            for i in range(20_000):
                mailbox.put(i)

        thread = threading.Thread(target=put, name="putting")
        thread.start()
        while len(taken) < 20_000:
            await asyncio.sleep(0)
        thread.join()
        return taken

    assert asyncio.run(asyncio.wait_for(main(), 30)) == list(range(20_000))


def test_what_waits_together_wakes_the_loop_once() -> None:
    async def main() -> tuple[list[int], int]:
        taken: list[int] = []
        loop = asyncio.get_running_loop()
        mailbox = Mailbox(loop, taken.append)
        wakes = 0
        wake = loop.call_soon_threadsafe

        def counted(*arguments: object) -> object:
            nonlocal wakes
            wakes += 1
            return wake(*arguments)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = counted  # type: ignore[assignment, method-assign]
        for i in range(10):
            mailbox.put(i)
        await asyncio.sleep(0.01)
        return taken, wakes

    taken, wakes = asyncio.run(main())
    assert taken == list(range(10))
    assert wakes == 1


def test_a_defect_in_taking_one_item_does_not_hold_up_the_next() -> None:
    async def main() -> list[int]:
        taken: list[int] = []
        problems: list[object] = []

        def take(item: int) -> None:
            if item == 1:
                raise ValueError("poison")
            taken.append(item)

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context["exception"]))
        mailbox = Mailbox(loop, take)
        for i in range(3):
            mailbox.put(i)
        await asyncio.sleep(0.01)
        assert [str(problem) for problem in problems] == ["poison"]
        return taken

    assert asyncio.run(main()) == [0, 2]


def test_a_closed_loop_is_said() -> None:
    loop = asyncio.new_event_loop()
    mailbox: Mailbox[int] = Mailbox(loop, lambda item: None)
    loop.close()
    with pytest.raises(RuntimeError):
        mailbox.put(1)
