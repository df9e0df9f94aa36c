"""The whole process with two brokers: the first is killed with -9 and comes back."""

from pathlib import Path

from schemas.identity import Lane
from tests.agent_process.agents import AgentProcess, Peer, account, wait_until
from tests.broker import Broker, broker, free_port, start_broker

LINK = "[link]\nprobe_s = 1.0\nreturn_after_s = 1.0\n"


def test_it_goes_to_the_second_and_back_and_tells_both(tmp_path: Path) -> None:
    first_port = free_port()
    (tmp_path / "second").mkdir()
    first: Broker = start_broker(tmp_path, first_port)
    try:
        with broker(tmp_path / "second") as second:
            fallback = f"[[broker.fallbacks]]\nport = {second.port}"
            with (
                Peer(second, answers=True) as at_second,
                AgentProcess(tmp_path, first_port, LINK, broker=fallback) as agent,
            ):
                agent.start()
                with Peer(first, answers=True) as at_first:
                    at_first.wait_online(agent)
                    first.kill()
                at_second.wait(lambda: at_second.events("BrokerChanged"), agent)
                away = at_second.events("BrokerChanged")[0].data
                assert (away["to"], away["preferred"]) == (f"mqtt://127.0.0.1:{second.port}", False)

                at_second.publish("edge/v1/gw-1/cmd/status", b"{}")
                at_second.wait(lambda: at_second.results("status"), agent)
                report = at_second.results("status")[0].result["broker"]
                assert (report["current"], report["preferred"]) == (f"mqtt://127.0.0.1:{second.port}", False)
                lost, used = report["brokers"]
                assert lost["failures_total"] >= 1 and lost["last_reason"]
                assert used["in_use"] and not lost["in_use"]

                first.start()
                with Peer(first, answers=True) as at_first:
                    at_first.wait(lambda: at_first.events("BrokerChanged"), agent)
                    assert at_first.events("BrokerChanged")[0].data["preferred"] is True
                    at_second.wait(lambda: len(at_second.statuses()) == 2, agent)
                    sessions = [heard.json["session"] for heard in (*at_first.on("status"), *at_second.on("status"))]
                    assert max(sessions) == at_first.on("status")[-1].json["session"]
                    assert [heard.json["reason"] for heard in at_second.on("status")] == [
                        "", f"moved to mqtt://127.0.0.1:{first_port}",
                    ]  # fmt: skip
                    assert agent.log.count("connected instead of") == 2
                    wait_until(lambda: account(agent)[Lane.LIFECYCLE]["pending"] == 0, lambda: agent.log[-3000:])
                    assert agent.terminate() == 0
                    at_first.wait(lambda: at_first.statuses()[-1] == "offline", agent)
                assert "Traceback" not in agent.log
    finally:
        first.kill()
