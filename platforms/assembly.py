"""A host's platforms put together: what it serves, which state it keeps, what it runs at its start."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from platforms.checking import Here, listed, settings_error, settings_mistakes
from platforms.errors import PlatformError
from platforms.functions import On
from platforms.host_context import Host, HostContext
from platforms.hosting import (
    BAD_ARGUMENTS,
    Check,
    FailedError,
    Hosting,
    RejectedError,
    encoder,
    run_hooks,
    served_functions,
    together,
)
from platforms.listening import Listening
from platforms.loading import BASE, load_platforms
from platforms.platform import Platform, Platforms
from platforms.rules import rules_of
from platforms.settings import PlatformsTable
from platforms.stages import StageKinds
from platforms.watching import MakeCondition
from schemas.language.catalogue import Catalogue
from schemas.language.personal import outside
from schemas.language.validators import InvalidError, Validators
from schemas.state import Check as StateCheck
from schemas.state import Collection, Collections


class Assembly:
    """`rejected` and `failed` are what hosted functions raise."""

    rejected: type[Exception] = RejectedError
    failed: type[Exception] = FailedError

    def __init__(self, platforms: Platforms, folder: Path = Path()) -> None:
        """`folder`: of the host's configuration."""
        self._platforms = platforms
        self._folder = folder
        self._rules = {name: rules_of(one.schema) for name, one in platforms.by_name.items()}
        self.collections = Collections(
            Collection(
                name, one.name, one.owner, one.rule, _check(Validators(platform.schema), one.name), one.personal
            )
            for name, platform in platforms.by_name.items()
            for one in platform.schema.state.values()
        )

    @property
    def names(self) -> list[str]:
        """The platforms, `core` first."""
        return list(self._platforms.by_name)

    @property
    def catalogue(self) -> Catalogue:
        """What events have to be that have left a node, or are about to."""
        return Catalogue([outside(one.schema) for one in self._platforms.by_name.values()])

    def base_checks(self, function: str) -> tuple[Check, Check] | None:
        """Of a function of the base platform that the host itself brings: what refuses wrong arguments, and what
        makes of its result plain data as it is declared. They raise RejectedError and FailedError. None where the
        platform does not declare it."""
        base = self._platforms.by_name.get(BASE)
        declared = None if base is None else base.schema.functions.get(function)
        if declared is None:
            return None
        rules = self._rules[BASE]
        check = rules.checks.arguments(function)

        def arguments(raw: Any) -> Any:
            try:
                return check(raw)
            except InvalidError as error:
                raise RejectedError(BAD_ARGUMENTS, str(error), error.field) from error

        return arguments, encoder(declared, rules)

    def hosting(self, host: Host) -> Hosting:
        """What `host` serves of all of them."""
        return together(
            served_functions(one, host.placement, self._rules[one.name], self._contexts(host))
            for one in self._platforms.by_name.values()
        )

    def settings_mistakes(self, settings: Mapping[str, Mapping[str, Any]], here: Here) -> list[str]:
        """`platforms.<name>.key: what`, for all mistakes in the settings of all platforms that check theirs."""
        return [text for name in self._platforms.by_name for text in self._mistakes(name, settings, here)]

    def _mistakes(self, name: str, settings: Mapping[str, Mapping[str, Any]], here: Here) -> list[str]:
        found = settings_mistakes(self._platforms.by_name[name], settings.get(name, {}), here)
        return listed(found, f"platforms.{name}")

    async def start(self, host: Host) -> list[PlatformError]:
        """Runs every platform's start hooks; what did not get through is returned, and the others go on. Those of a
        platform whose settings are wrong are not run."""
        problems: list[PlatformError] = []
        for one in self._platforms.by_name.values():
            if mistakes := self._mistakes(one.name, host.settings, host.here):
                problems.append(settings_error(one.name, mistakes))
                continue
            try:
                await run_hooks(one, HostContext(host, one, self._rules[one.name]))
            except PlatformError as error:
                problems.append(error)
        return problems

    def listening(self, host: Host) -> Listening:
        """What this host's platforms listen to; the host runs the tasks."""
        return Listening(list(self._platforms.by_name.values()), self._contexts(host), host.placement)

    @property
    def events(self) -> set[str]:
        """The names of all that they declare."""
        return {name for one in self._platforms.by_name.values() for name in one.schema.events}

    @property
    def rule_kinds(self) -> dict[str, MakeCondition]:
        """What `kind` of an alert rule may name."""
        return self._marked(On.RULE)

    @property
    def stages(self) -> StageKinds:
        """What `kind` of a stage may name."""
        return StageKinds(self._marked(On.STAGE), self._folder, self.names)

    def _marked(self, on: On) -> dict[str, Callable[..., Any]]:
        """By platform and name."""
        return {
            f"{name}.{listener.name}": listener.run
            for name, one in self._platforms.by_name.items()
            for listener in one.listeners
            if listener.on is on
        }

    def _contexts(self, host: Host) -> Callable[[Platform, Any], HostContext]:
        return lambda platform, call: HostContext(host, platform, self._rules[platform.name], call)


def assemble(table: PlatformsTable) -> Assembly:
    """Loads what the configuration names. Raises PlatformError with all that is wrong."""
    return Assembly(load_platforms(table.enabled, table.folders), table.folder)


def _check(validators: Validators, collection: str) -> StateCheck:
    def check(key: str, value: Any) -> str | None:
        keys, values = validators.state(collection)
        for what, validator, given in (("the key", keys, key), ("", values, value)):
            try:
                validator.check(given)
            except InvalidError as error:
                return f"{what} {error}".strip()
        return None

    return check
