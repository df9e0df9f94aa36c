"""Lines of the kernel's GPIO character device, through libgpiod: the only file that imports gpiod (extra `gpio`)."""

from datetime import timedelta

from agent.actions.runner import ActionError


class GpiodLine:
    """An output line of /dev/gpiochipN, by number or by name."""

    def __init__(self, chip: str, line: int | str, *, active_low: bool, consumer: str) -> None:
        """Takes the line, inactive. Raises ActionError."""
        try:
            import gpiod
            from gpiod.line import Direction, Value
        except ModuleNotFoundError as error:
            raise ActionError("gpio: the package gpiod is missing", hint="pip install 'edgewright[gpio]'") from error
        self._where = f"gpio line {line} of {chip}"
        self._values = {False: Value.INACTIVE, True: Value.ACTIVE}
        self._line = line
        wanted = gpiod.LineSettings(
            direction=Direction.OUTPUT, active_low=active_low, output_value=self._values[False]
        )
        try:
            self._request = gpiod.request_lines(chip, consumer=consumer, config={line: wanted})
        except (OSError, ValueError) as error:
            raise ActionError(
                f"{self._where}: cannot be taken: {error}", hint="see gpioinfo; is the agent in the group gpio?"
            ) from error

    def set(self, active: bool) -> None:
        try:
            self._request.set_value(self._line, self._values[active])
        except OSError as error:
            raise ActionError(f"{self._where}: cannot be set: {error}") from error

    def release(self) -> None:
        self._request.release()


class GpiodInput:
    """An input line of /dev/gpiochipN, by number or by name: when it became active."""

    def __init__(self, chip: str, line: int | str, *, active_low: bool, consumer: str) -> None:
        """Takes the line. Raises ActionError."""
        try:
            import gpiod
            from gpiod.line import Direction, Edge
        except ModuleNotFoundError as error:
            raise ActionError("gpio: the package gpiod is missing", hint="pip install 'edgewright[gpio]'") from error
        self._where = f"gpio line {line} of {chip}"
        wanted = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.RISING, active_low=active_low)
        try:
            self._request = gpiod.request_lines(chip, consumer=consumer, config={line: wanted})
        except (OSError, ValueError) as error:
            raise ActionError(
                f"{self._where}: cannot be taken: {error}", hint="see gpioinfo; is the agent in the group gpio?"
            ) from error

    def wait(self, timeout_s: float) -> list[int]:
        """Monotonic nanoseconds at which it became active; none within the time. Blocks. Raises ActionError."""
        try:
            if not self._request.wait_edge_events(timedelta(seconds=timeout_s)):
                return []
            return [event.timestamp_ns for event in self._request.read_edge_events()]
        except OSError as error:
            raise ActionError(f"{self._where}: cannot be read: {error}") from error

    def release(self) -> None:
        self._request.release()
