"""Text to tokens and comments with their places. What is neither is told, and read as what was probably meant."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from schemas.language.limits import ERRORS_MAX, NAME_CHARS_MAX, NESTING_MAX, TOKENS_MAX
from schemas.language.problems import Problem, SchemaError, shortened
from schemas.language.tree import Comment, Place

END = "$END"

# What people write who come from other languages, or with other keyboards, and what they mean.
_MEANT = {
    ";": ",", "<": "[", ">": "]", "->": ":", "=>": ":", "→": ":",
    "，": ",", "、": ",", "；": ",", "：": ":", "（": "(", "）": ")", "【": "[", "】": "]", "［": "[", "］": "]",
    "｛": "{", "｝": "}", "？": "?", "＠": "@", "＝": "=",
}  # fmt: skip
_HINTS = {
    "<": "the types in a type stand in square brackets: List[String]",
    ">": "the types in a type stand in square brackets: List[String]",
    "->": "the type of a result stands after a colon",
    "=>": "the type of a result stands after a colon",
    "→": "the type of a result stands after a colon",
    ";": "fields follow each other with a comma, or with nothing",
}
_BAD = (
    r"(?P<open_comment>/\*(?:.|\n)*)"
    r'|(?P<open_text>"[^\n]*)'
    r"|(?P<quoted>'[^'\n]*'?|“[^”\n]*”?)"
    r"|(?P<hash>\#[^\n]*)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<meant>[;<>→，、；：（）【】［］｛｝？＠＝])"
    r"|(?P<bad>.)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is the terminal of the grammar, END at the end of the file."""

    kind: str
    text: str
    place: Place
    depth: int = 0  # brackets around it

    @property
    def shown(self) -> str:
        """For messages."""
        return "the end of the file" if self.kind == END else shortened(self.text)


@dataclass(slots=True)
class Scan:
    """The words of a text, END the last. `suspect` are the tokens at which something was wrong already."""

    tokens: list[Token] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    suspect: set[int] = field(default_factory=set)


class Scanner:
    """Made once from the terminals of the grammar, name to regular expression."""

    def __init__(self, terminals: Mapping[str, str], keywords: Mapping[str, str], marks: Mapping[str, str]) -> None:
        """`keywords` and `marks` are terminals by the text that they are."""
        self._keywords = dict(keywords)
        self._marks = dict(marks)
        order = ("WS", "COMMENT", "STRING", "DURATION", "NUMBER")
        groups = [f"(?P<{name}>{terminals[name]})" for name in order]
        punctuation = "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))
        self._pattern = re.compile(rf"{'|'.join(groups)}|(?P<arrow>->|=>)|(?P<mark>{punctuation})|{_BAD}")
        self._name = re.compile(terminals["NAME"])

    def scan(self, text: str, file: str, lines: list[str]) -> Scan:
        """Raises SchemaError where brackets nest deeper than anybody means."""
        scan = Scan()
        depth = 0
        for kind, piece, place, own_line in self._pieces(text):
            if kind == "COMMENT":
                scan.comments.append(Comment(piece, own_line, place))
                continue
            before = len(scan.problems)
            kind, piece = self._meant(scan, kind, piece, place, file, lines)
            if len(scan.problems) > before:
                scan.suspect.add(len(scan.tokens))
            if not kind:
                continue
            if piece in ("]", ")", "}"):
                depth = max(0, depth - 1)
            if len(scan.tokens) >= TOKENS_MAX:
                message = f"the file has more than {TOKENS_MAX} words and marks"
                raise SchemaError([Problem(file, place, message, "split it up", line=lines[place.line - 1])])
            scan.tokens.append(Token(kind, piece, place, depth))
            if piece in ("[", "(", "{"):
                depth += 1
            if depth > NESTING_MAX:
                message = f"brackets are nested deeper than {NESTING_MAX} levels"
                problem = Problem(file, place, message, "give the inner part a name", line=lines[place.line - 1])
                raise SchemaError([*scan.problems, problem])
        scan.tokens.append(Token(END, "", self._end(scan.tokens, lines)))
        return scan

    def _pieces(self, text: str) -> Iterator[tuple[str, str, Place, bool]]:
        """Group, text, place, and whether nothing stands before it on its line."""
        line, start, at = 1, 0, 0  # start: of the line
        while at < len(text):
            found = self._pattern.match(text, at)
            assert found is not None and found.lastgroup is not None  # the last alternative takes anything
            kind, at = found.lastgroup, found.end()
            if kind in ("DURATION", "NUMBER") and (rest := _WORD.match(text, at)):
                kind, at = "no_number", rest.end()
            piece = text[found.start() : at]
            breaks = piece.count("\n")
            column = found.start() - start + 1
            if breaks:
                new_start = found.start() + piece.rindex("\n") + 1
                place = Place(line, column, line + breaks, at - new_start + 1)
            else:
                new_start = start
                place = Place(line, column, line, column + len(piece))
            if kind != "WS":
                own_line = kind == "COMMENT" and not text[start : found.start()].strip()
                yield kind, piece, place, own_line
            line, start = line + breaks, new_start

    def _meant(self, scan: Scan, kind: str, piece: str, place: Place, file: str, lines: list[str]) -> tuple[str, str]:
        """The terminal and its text; what is none is told, and "" stands for nothing."""

        def wrong(message: str, hint: str) -> None:
            last = scan.problems[-1].place if scan.problems else None
            if len(scan.problems) < ERRORS_MAX and not (last and last.end_line == place.line and kind == "bad"):
                scan.problems.append(Problem(file, place, message, hint, line=lines[place.line - 1]))

        if kind == "mark":
            return self._marks[piece], piece
        if kind == "word" and self._name.fullmatch(piece):
            if len(piece) > NAME_CHARS_MAX:
                wrong(f"a name of {len(piece)} characters; at most {NAME_CHARS_MAX} are allowed", "shorten it")
            return self._keywords.get(piece, "NAME"), piece[:NAME_CHARS_MAX]
        if kind in ("STRING", "NUMBER", "DURATION"):
            return kind, piece
        shown = shortened(piece)
        match kind:
            case "word":
                wrong(f"{shown} is no name", "names have the letters a to z and A to Z, digits and _")
                return "NAME", "_"
            case "open_text":
                wrong("a text that does not end on its line", 'close it with "')
                return "STRING", '"?"'
            case "quoted":
                wrong(f"{shown} is no text", 'texts stand in double quotes: "…"')
                return "STRING", '"?"'
            case "open_comment":
                wrong("a comment that does not end", "close it with */")
                return "", ""
            case "hash":
                wrong("# begins nothing", "comments begin with //, documentation with ///")
                return "", ""
            case "no_number":
                wrong(f"{shown} is neither a number nor a length of time", "lengths end with ms, s, m, h or d")
                return "NUMBER", "0"
            case "meant" | "arrow":
                meant = _MEANT[piece]
                wrong(f"{shown} cannot stand here", _HINTS.get(piece, f"write {meant}"))
                return self._marks[meant], meant
            case "bad":
                wrong(f"{shown} cannot stand here", "leave it out")
                return "", ""
        return kind, piece

    @staticmethod
    def _end(tokens: list[Token], lines: list[str]) -> Place:
        last = tokens[-1].place if tokens else Place()
        line, column = last.end_line, last.end_column
        return Place(line, column, line, column + 1)


_WORD = re.compile(r"\w+")
