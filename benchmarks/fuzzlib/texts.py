"""Broken `.edge` files: token soup, a good file with something changed, comments anywhere, deep and large files."""

import random
import re

SAMPLE = '''// A platform that has every form of the language.
import core
import "types.edge"

/// How busy a place is.
enum Level {
  /// Nothing there.
  free
  busy = "very busy" // told
}

enum Colour { red, green }

/// A number. Two
/// lines.
type Number = String @pattern("[A-Z]{2}-[0-9]+") @length(4..12)
type Open
type Speed = Float @range(0..300.5) @unit("km/h")
type Speeds = Speed[] @length(..100)
type Tree = Map[String, Tree]

/// A thing.
record Thing @personal {
  id: Number /// its number
  level: Level = free
  speed: Speed? = null @deprecated("use speeds"), speeds: Speeds = []
  more: Map[Level, List[Thing?]]? /* why */
  size: Integer = -3 @range(..10)
  stay: Duration = 1.5h @range(60..)
  at: Timestamp, raw: Bytes, any: Json = {}
  words: String[] = ["a", "b\\n"]
  next: Thing?
}

record Nothing {}

/// A platform.
edge_computing Sample_Platform @version("1.0") {
  platform_name: "样例 \\"sample\\""
  edge_node_types: [Box, Gate]
  workloads: [Count_Things, Watch]
  data_sources: [
    Camera, // first
    Radar
  ]
  functions: [
    /// Counts.
    countThings(window: Duration = 5m, levels: Level[] = [free, busy]): Map[String, Integer] @edge @timeout(2m),
    plan(
      thing: Thing, /// what
      limit: Integer = 3 @range(1..10)
    ): Thing? @cloud @parallel(2),
    reset() @any
  ]
  state: {
    /// What there is.
    things: Map[Number, Place] {
      thing: Thing
      inner: Map[String, Deep] { x: Float } // deeper
    } @owner(shared) @merge(last_writer)
    counts: Map[Integer, Integer] @owner(shared) @merge(max)
  }
  events: [
    ThingSeen(thing: Thing, speed: Speed = 2.5) @source(countThings, node) @qos(0) @keep(30d),
    Planned() @source(coordinator)
  ]
}
'''  # fmt: skip

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[A-Za-z_]\w*|[0-9.]+[a-z]*|\s+|\S', re.DOTALL)
_KNOWN = """import record enum type edge_computing String Integer Float Map List Json Thing Level a b c platform_name
    functions events state workloads edge_node_types @range @length @source @owner @merge @edge @unit true
    { } { } [ ] [ ] ( ) ( ) : : , , = @ ? .. 0 1 -5 1.5 1e9 99999999999999999999 5m 3d 1..2 ..3 4..
    _x ; < > -> # ` 5mx"""
_WORDS = [
    *_KNOWN.split(), '"x"', '""', '"\\n"', '"\\ud800"', "//", "///", "/*", "*/", "/**/", "\n", "\n", "\n", "\u667a",
    "'", "\\", "\0", "\u2028", "\ufeff", "\uff0c", "1.2.3",
]  # fmt: skip
_NASTY = [
    "{" * 40,
    "[" * 40,
    "(" * 40,
    "}" * 5,
    "]" * 5,
    '"',
    "/*",
    "*/",
    "//",
    "///",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "@",
    "..",
    "é",
]
_COMMENTS = [
    "// c\n",
    "/// d\n",
    "/* b */",
    "/* two\n\n lines */",
    "/// orphan\n\n",
    "//\n",
    "/**/",
    "\n\n// own\n\n",
]


def make(rng: random.Random) -> str:
    """One input."""
    kind = rng.random()
    if kind < 0.25:
        return _soup(rng)
    if kind < 0.65:
        return _changed(rng)
    if kind < 0.9:
        return _commented(rng)
    if kind < 0.96:
        return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)])) for _ in range(rng.randrange(80)))
    if kind < 0.9995:
        return _nested(rng)
    return _large(rng)


def _soup(rng: random.Random) -> str:
    between = rng.choice([" ", " ", "", "\n"])
    return between.join(rng.choice(_WORDS) for _ in range(rng.randrange(60)))


def _piece(rng: random.Random) -> str:
    """A part of the sample that is a file by itself, or not."""
    parts = SAMPLE.split("\n\n")
    first = rng.randrange(len(parts))
    return "\n\n".join(parts[first : first + rng.choice([1, 1, 2, 3, 9])])


def _changed(rng: random.Random) -> str:
    tokens = _TOKEN.findall(_piece(rng))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        if not tokens:
            break
        at = rng.randrange(len(tokens))
        match rng.randrange(7):
            case 0:
                del tokens[at : at + rng.choice([1, 1, 2, 10])]
            case 1:
                tokens.insert(at, rng.choice(_WORDS))
            case 2:
                tokens[at] = rng.choice(_WORDS)
            case 3:
                other = rng.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 4:
                tokens.insert(at, rng.choice(_NASTY))
            case 5:
                tokens[at:at] = tokens[at : at + rng.choice([1, 5, 30])]
            case 6:
                text = tokens[at]
                cut = rng.randrange(len(text) + 1)
                tokens[at] = text[:cut] + rng.choice(["", rng.choice(_NASTY)]) + text[cut + 1 :]
    return "".join(tokens)


def _commented(rng: random.Random) -> str:
    """A good file with comments and line breaks where nothing has to stand together."""
    tokens = _TOKEN.findall(_piece(rng))
    for _ in range(rng.choice([1, 2, 5, 20])):
        tokens.insert(rng.randrange(len(tokens) + 1), rng.choice(_COMMENTS))
    return "".join(tokens)


def _nested(rng: random.Random) -> str:
    depth = rng.choice([30, 31, 32, 33, 34, 100, 2000])
    match rng.randrange(5):
        case 0:
            return f"record A {{ a: {'Map[String, ' * depth}String{']' * depth} }}"
        case 1:
            return f"record A {{ a: String{'[]' * depth} }}"
        case 2:
            return f"record A {{ a: Json = {'[' * depth}{']' * depth} }}"
        case 3:
            return "".join(f"record R{i} {{ a: R{i + 1} }}\n" for i in range(depth)) + f"record R{depth} {{}}"
    return (
        "".join(f"type R{i} = R{i + 1}\n" for i in range(depth)) + f"type R{depth} = R{rng.choice([0, depth // 2])}"
    )


def _large(rng: random.Random) -> str:
    unit = rng.choice([_soup(rng), _piece(rng), rng.choice(_WORDS), rng.choice(_NASTY), "record A { a: B }\n"]) or "x"
    return unit * min(200_000, rng.choice([20_000, 300_000, 1_200_000]) // len(unit))
