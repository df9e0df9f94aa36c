"""`edge-agent`: run the gateway, check its configuration, look into its files, change fields, make model bundles."""

import argparse
import asyncio
import faulthandler
import logging
import sys
from pathlib import Path

from agent.alerting.cli import add_commands as add_alerts_commands
from agent.calibrate.cli import add_arguments as add_calibrate_arguments
from agent.config import AgentConfig, event_mistakes, inspect_config, load_config, platforms_table, what_is_here
from agent.documents.cli import add_commands as add_local_commands
from agent.evidence.cli import add_commands as add_evidence_commands
from agent.models.cli import add_commands as add_models_commands
from agent.outbox.cli import add_commands as add_outbox_commands
from agent.platform_state.cli import add_commands as add_state_commands
from agent.results.cli import add_commands as add_results_commands
from agent.stages.settings import stage_mistakes
from agent.teach.cli import add_features, add_teach
from agent.workloads.cli import add_commands as add_workloads_commands
from platforms.assembly import Assembly, assemble
from platforms.errors import PlatformError
from runtime.config import mistakes_error, secret
from runtime.errors import ConfigError, EdgewrightError
from runtime.logs import setup_logging

log = logging.getLogger(__name__)

EXIT_USAGE = 2  # wrong arguments or configuration: restarting cannot help


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status; errors that a person can mend are one message, not a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(f"edge-agent: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    except EdgewrightError as error:
        print(f"edge-agent: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-agent", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, config: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        if config:
            command.add_argument("--config", type=Path, required=True, metavar="FILE", help="agent.toml")
        return command

    add("run", "run the agent until it is told to stop").set_defaults(run=_run)
    add("check", "check a configuration, with its models, and report every mistake").set_defaults(run=_check)
    actions = add("actions", "try a local action: does it once, with a made-up event")
    actions.add_argument("what", choices=("test",), help="do it now and say what happened")
    actions.add_argument("name", help="the action's name")
    actions.set_defaults(run=_actions)
    add_alerts_commands(add("alerts", "alerts that are on, and acknowledging them at the node itself", config=False))
    add_outbox_commands(add("outbox", "look into the outbox, also while the agent runs", config=False))
    add_evidence_commands(add("evidence", "look into the evidence, also while the agent runs", config=False))
    text = "change a field at the node itself; merged with what the coordinator wants"
    add_local_commands(add("local", text, config=False))
    add_state_commands(add("state", "platform state that this node keeps, also while the agent runs", config=False))
    add_models_commands(add("models", "models that lie here, also while the agent runs", config=False))
    add_results_commands(add("results", "what was found here, also while the agent runs", config=False))
    add_workloads_commands(add("workloads", "what the coordinator has this node run beside its own", config=False))
    text = "pixels to millimetres on a plane, from known points or a chessboard in a picture"
    add_calibrate_arguments(add("calibrate", text, config=False))
    add_teach(add("teach", "make a model that knows good parts from pictures of them", config=False))
    _bundle_arguments(add("bundle", "make a model bundle of a .tflite file", config=False))
    model = add("model", "make model bundles", config=False).add_subparsers(required=True, metavar="WHAT")
    _bundle_arguments(model.add_parser("import", help="make a model bundle of a .tflite file, as `bundle` does"))
    text = "cut a network at inner layers, for teaching or as features for other programs"
    add_features(model.add_parser("features", help=text, description=text))
    text = "give a bundle golden frames: pictures with known answers, which every node proves the model on"
    golden = model.add_parser("golden", help=text, description=text)
    golden.add_argument("bundle", type=Path, help="the folder that gets golden.toml and the pictures")
    golden.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures with known answers")
    text = 'JSON by file name: [{"class": "pore", "box": [x0, y0, x1, y1]}] in pixels, or the label for a classifier'
    golden.add_argument("--truth", type=Path, metavar="FILE", help=text)
    golden.add_argument("--by", type=Path, metavar="BUNDLE", help="or the answers of this model, as of the float one")
    golden.add_argument("--accuracy-min", type=float, metavar="0..1", help="that a node has to find (default 0.5)")
    golden.set_defaults(run=_golden)
    return parser


def _bundle_arguments(bundle: argparse.ArgumentParser) -> None:
    bundle.add_argument("model", type=Path, help="the .tflite file")
    bundle.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the bundle to make")
    bundle.add_argument("--labels", type=Path, metavar="FILE", help="one label a line; else those inside the model")
    bundle.add_argument("--decoder", help="how to read its outputs; else guessed from their shapes")
    bundle.add_argument("--name", help="the bundle's name; else the file's")
    bundle.add_argument(
        "--more", type=Path, action="append", default=[], help="another variant, e.g. *_edgetpu.tflite"
    )
    bundle.set_defaults(run=_bundle)


def _run(arguments: argparse.Namespace) -> int:
    faulthandler.enable()  # systemd's watchdog ends a hung process with SIGABRT: the journal then shows where it hung
    config = load_config(arguments.config)
    setup_logging(config.log.level, form=config.log.form, secrets=_secrets(config))

    assembly = _assembly(config, arguments.config)

    async def run() -> None:
        # Imported here: the other commands need none of it.
        from agent.agent import Agent

        await Agent(config, assembly).run()

    asyncio.run(run())
    return 0


def _assembly(config: AgentConfig, path: Path) -> Assembly:
    try:
        assembly = assemble(platforms_table(config, path))
    except PlatformError as error:
        raise mistakes_error(path, _lines(error)) from error
    if mistakes := _platform_mistakes(config, assembly):
        raise mistakes_error(path, mistakes)
    return assembly


def _platform_mistakes(config: AgentConfig, assembly: Assembly) -> list[str]:
    """What is wrong by what the platforms declare and bring."""
    return event_mistakes(config, assembly.catalogue.schemas) + stage_mistakes(config, assembly.stages)


def _head(mistake: str) -> str:
    """Of a mistake, without what there would be instead."""
    return mistake.partition(";")[0]


def _lines(error: PlatformError) -> list[str]:
    return [f"platforms: {line}" for line in str(error).splitlines()]


def _check(arguments: argparse.Namespace) -> int:
    config, mistakes = inspect_config(arguments.config)
    if config is not None:
        from agent.alerting.check import conditions_mistakes
        from agent.check import check_models

        kinds, stages, wrong = {}, None, []
        try:
            table = platforms_table(config, arguments.config)
            assembly = assemble(table)
            kinds, stages = assembly.rule_kinds, assembly.stages
            wrong = conditions_mistakes(config.alerts, assembly.catalogue.schemas, mistakes)
            said = {_head(text) for text in mistakes}
            wrong += [text for text in _platform_mistakes(config, assembly) if _head(text) not in said]
            wrong += assembly.settings_mistakes(table.settings, what_is_here(config))
        except PlatformError as error:
            wrong = _lines(error)
        mistakes += check_models(config, mistakes, kinds, stages)
        mistakes += wrong
    if config is None or mistakes:
        raise mistakes_error(arguments.config, mistakes)
    print(f"{arguments.config}: no mistakes; cameras {len(config.cameras)}, pipelines {len(config.pipelines)}")  # noqa: T201
    return 0


def _actions(arguments: argparse.Namespace) -> int:
    from agent.actions.trial import try_action

    config = load_config(arguments.config)
    action = next((action for action in config.actions if action.name == arguments.name), None)
    if action is None:
        known = ", ".join(action.name for action in config.actions) or "there is none"
        raise ConfigError(f"{arguments.config}: no action is called {arguments.name!r} ({known})")
    trial = try_action(action, config.local_broker, node=config.node.id, topic_root=config.broker.topic_root)
    print(f"{action.name}: {asyncio.run(trial)}")  # noqa: T201
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    from agent.infer.bundle_maker import make_bundle

    made = make_bundle(
        arguments.model,
        arguments.out,
        labels=arguments.labels,
        decoder=arguments.decoder,
        name=arguments.name or "",
        more_files=arguments.more,
    )
    print(f"{arguments.out}: model {made.bundle.name}, {len(made.bundle.labels)} labels")  # noqa: T201
    for note in made.notes:
        print(f"  guessed: {note}")  # noqa: T201
    return 0


def _golden(arguments: argparse.Namespace) -> int:
    from agent.models.golden_cli import make_golden

    return make_golden(arguments)


def _secrets(config: AgentConfig) -> list[str]:
    """What must never be in a log."""
    found = [camera.resolved().password for camera in config.cameras]
    found += [address.password for address in config.broker.addresses()]
    found.append(config.local_broker.address().password)
    found += [secret(f"action {action.name}: token", action.token_file, "") for action in config.actions]
    found += [secret(f"sensor {sensor.id}: password", sensor.password_file, "") for sensor in config.sensors]
    return [text for text in found if text]


if __name__ == "__main__":
    sys.exit(main())
