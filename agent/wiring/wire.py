"""Every part of the gateway is made and wired here, in the order a frame travels.

    camera ─► slots ─► worker ─► pipeline ─► outlet (results, policy) ─► outbox ─► sender (gate) ─► link

Each step fills in some of the `Parts`. Some need others that are made after them: they are given functions that look
there when they are called, and nothing is called before everything is made.
"""

from agent.config import AgentConfig
from agent.self_report import SelfReport
from agent.wiring import inside, outside
from agent.wiring.parts import Parts
from platforms.assembly import Assembly


def wire(config: AgentConfig, assembly: Assembly) -> Parts:
    """Opens the files and wires the parts; nothing runs yet. Raises ConfigError or a storage error."""
    parts = Parts(config, assembly)
    says = SelfReport(parts)

    inside.keep(parts)
    inside.infer(parts)
    inside.let_out(parts)
    inside.see(parts)
    inside.host_platforms(parts)
    inside.run_workloads(parts)
    inside.react(parts)

    outside.send(parts)
    outside.answer(parts, says)
    outside.talk(parts, says)
    outside.upload(parts)
    outside.serve_models(parts)
    outside.follow_documents(parts)

    inside.do_less(parts)
    return parts
