"""`edge-agent actions test NAME`: one action, once, with a made-up alert."""

import asyncio
import time

from agent.actions.event import LocalEvent
from agent.actions.local_broker import LocalBroker
from agent.actions.make import runner_of
from agent.actions.runner import ActionError
from agent.actions.settings import ActionSettings, LocalBrokerConfig
from agent.outbox.rows import Draft
from schemas.identity import Lane
from schemas.messages import Severity


def sample(action: ActionSettings) -> Draft:
    """An event that the action is for."""
    on = action.on
    camera = on.cameras[0] if on.cameras else "cam1"
    data = {
        "camera_id": camera,
        "rule": on.rules[0] if on.rules else "test",
        "alert_id": "test-1",
        "state": on.states[0].value if on.states else "raised",
        "test": True,
    }
    severity = on.severities[0] if on.severities else Severity.WARNING
    kind = on.types[0] if on.types else "AlertRaised"
    return Draft(Lane.ALERT, kind, camera, time.time_ns() // 1_000_000, data, severity)


async def try_action(
    action: ActionSettings, config: LocalBrokerConfig, *, node: str, topic_root: str, wait_s: float = 10.0
) -> str:
    """Does it once and says what happened. Raises EdgewrightError."""
    # A client id of its own: the running agent must not be thrown off its broker by a test.
    broker = LocalBroker(config.address(), f"{node}-actions-test")
    runner = runner_of(action, broker)
    connecting = asyncio.create_task(broker.run(), name="local-broker")
    try:
        runner.open()
        limit_s = (runner.limit_s or action.timeout_s + action.pulse_s) + wait_s
        async with asyncio.timeout(runner.limit_s or limit_s):
            return await runner.run(LocalEvent(node, topic_root, "test.1", sample(action)))
    except TimeoutError as error:
        reason = broker.error or "it was not done in time, and ended"
        raise ActionError(f"action {action.name}: {reason}") from error
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        runner.close()
