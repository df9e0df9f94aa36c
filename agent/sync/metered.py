"""Whether the link costs by the byte, as NetworkManager says: its property `Metered`, asked for with `busctl`.

Where either is missing, or says that it does not know, the answer is no.
"""

import asyncio
import contextlib
import shutil

TIMEOUT_S = 5.0
_SERVICE = "org.freedesktop.NetworkManager"
_COMMAND = ("get-property", _SERVICE, "/org/freedesktop/NetworkManager", _SERVICE, "Metered")
# NMMetered: 0 unknown, 1 yes, 2 no, 3 guessed yes, 4 guessed no. `busctl` prints the type before the value.
_METERED = {"u 1", "u 3"}


async def link_is_metered() -> bool:
    """Never raises; takes TIMEOUT_S at most."""
    program = shutil.which("busctl")
    if program is None:
        return False
    try:
        process = await asyncio.create_subprocess_exec(
            program, *_COMMAND, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said, _ = await process.communicate()
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                process.kill()
            await process.wait()
    return says_metered(said.decode("utf-8", "replace"))


def says_metered(said: str) -> bool:
    """What `busctl` printed."""
    return said.strip() in _METERED
