"""What simulated nodes are: profiles, sites, places, labels. It follows from the seed and the number. Pure."""

import functools
import random
from dataclasses import dataclass

from coordinator.simulate.scenario import Scenario
from schemas.codec import encode_document
from schemas.messages import Birth

FUNCTIONS = ["report", "status"]
PLACES_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of box. `weight`: how many of a hundred are like it."""

    name: str
    weight: int
    node_type: str
    arch: str
    cpu: str
    accelerators: tuple[str, ...]
    cores: int
    memory_mb: int
    storage_mb: int
    gpu: int = 0
    npu: int = 0


PROFILES = (
    Profile("arm64", 35, "Edge_Gateway", "aarch64", "Cortex-A72", (), 4, 4_096, 32_768),
    Profile("x86_64", 30, "Edge_Gateway", "x86_64", "Atom x6425E", (), 4, 8_192, 131_072),
    Profile("tpu", 15, "Edge_Gateway", "aarch64", "Cortex-A53", ("edgetpu-pcie",), 4, 1_024, 8_192, npu=1),
    Profile("npu", 12, "Edge_Gateway", "aarch64", "Cortex-A76", ("npu",), 8, 16_384, 65_536, npu=1),
    Profile("gpu", 8, "Edge_Gateway", "x86_64", "Xeon D-1718T", ("gpu", "nvidia"), 8, 32_768, 524_288, gpu=1),
)


def profile_of(scenario: Scenario, number: int) -> Profile:
    dice = random.Random(f"{scenario.fleet.seed}/profile/{number}")
    return dice.choices(PROFILES, [profile.weight for profile in PROFILES])[0]


def birth_of(scenario: Scenario, number: int, boot: int, session: int, stream: str) -> Birth:
    """Of node `number`."""
    fleet, profile = scenario.fleet, profile_of(scenario, number)
    site = number % fleet.sites + 1
    lat, lon = _place_of(fleet.seed, site)
    return Birth(
        boot=boot,
        session=session,
        stream=stream,
        name=f"simulated {profile.name} {number + 1}",
        node_type=profile.node_type,
        site=f"site-{site}",
        labels={
            "simulated": "true",
            "profile": profile.name,
            "line": str(number % 4 + 1),
            "tier": "canary" if number % 20 == 0 else "stable",
        },
        location={"lat": lat, "lon": lon},
        hardware={
            "arch": profile.arch,
            "cpu": profile.cpu,
            "accelerators": list(profile.accelerators),
            "containers": _engine(scenario, number),
        },
        resources={
            "cores": profile.cores,
            "memory_mb": profile.memory_mb,
            "storage_mb": profile.storage_mb,
            "gpu": profile.gpu,
            "npu": profile.npu,
        },
        versions={"agent": "simulated-1"},
        platforms=["core"],
        functions=FUNCTIONS,
        cameras=["cam1"],
    )


def birth_rest(scenario: Scenario, number: int, stream: str) -> bytes:
    """Of the JSON of that birth what follows its boot and session: the same for every connection of a stream."""
    return encode_document(birth_of(scenario, number, 0, 0, stream)).removeprefix(_birth_head(0, 0))


def birth_payload(boot: int, session: int, rest: bytes) -> bytes:
    """The birth, byte for byte as the codec writes it."""
    return _birth_head(boot, session) + rest


def _birth_head(boot: int, session: int) -> bytes:
    return f'{{"boot":{boot},"session":{session}'.encode()


@functools.lru_cache(PLACES_REMEMBERED)
def _place_of(seed: int, site: int) -> tuple[float, float]:
    """Latitude and longitude, in degrees."""
    dice = random.Random(f"{seed}/site/{site}")
    return round(dice.uniform(-55, 65), 4), round(dice.uniform(-180, 180), 4)


def _engine(scenario: Scenario, number: int) -> str:
    """What runs containers there; "" for nothing."""
    dice = random.Random(f"{scenario.fleet.seed}/containers/{number}")
    return "podman" if dice.random() < scenario.workloads.containers else ""
