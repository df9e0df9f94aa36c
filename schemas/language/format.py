"""The canonical layout of a `.edge` file. Formatting twice changes nothing more; every comment stays at its place.

Two spaces a level, one field a line, at most one blank line where the author left some, always one around what spans
several lines at the top. A list of names, an enum or a signature stays on one line if its author began it there, it
fits in LINE_CHARS_MAX, and nothing in it is commented; else each item has its own line. Documentation stays above or
beside what it documents.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from schemas.language import tree
from schemas.language.tree import Comment, Place

LINE_CHARS_MAX = 118
_Documented = tree.Declaration | tree.Section | tree.Entry | tree.Member | tree.EnumValue


def format_file(file: tree.File) -> str:
    """The text of a tree, with the comments of the file that it was read from."""
    return _Writer(file).text()


@dataclass(slots=True)
class _Line:
    """One line of the output. `comments` follow it; one that begins with // can only be the last."""

    text: str
    comments: list[str] = field(default_factory=list)

    @property
    def is_closed(self) -> bool:
        return (self.comments[-1] if self.comments else self.text.lstrip()).startswith("//")

    def takes(self, comment: Comment) -> bool:
        """Whether a comment may follow. Documentation must not come to stand beside what it was not about."""
        return bool(self.text) and not self.is_closed and (not comment.is_doc or self.text.lstrip()[0] in "])}")

    def __str__(self) -> str:
        return " ".join([self.text, *self.comments])


class _Writer:
    def __init__(self, file: tree.File) -> None:
        self._file = file
        self._lines: list[_Line] = []
        self._level = 0
        self._source = file.text.split("\n") if file.text else []
        owned = {comment.place for found in file.documented.values() for comment in found}
        self._comments = [one for one in file.comments if one.place not in owned]
        self._next = 0  # of the comments
        self._covered = {
            line for one in file.comments for line in range(one.place.line, one.place.end_line + 1)
        }  # a blank line in a comment is none of the layout's
        self._must_part = False  # the next thing needs a blank line before it
        self._is_first = True  # nothing stands in this bracket yet
        self._source_line = 0  # of what was written last

    def text(self) -> str:
        before = None
        for one in self._file.declarations:
            if before is not None and (_is_long(before) or _is_long(one)):
                self._must_part = True
            self._declaration(one)
            before = one
        self._comments_before(None)
        return "".join(f"{line}\n" for line in self._lines)

    # ---- lines ----------------------------------------------------------------------------------

    def _put(self, text: str) -> None:
        self._lines.append(_Line("  " * self._level + text))
        self._is_first = False

    def _part(self, source_line: int) -> None:
        """A blank line, where the source has one above this line or the layout wants one."""
        above = source_line - 1
        is_blank = self._source_line < above <= len(self._source) and not self._source[above - 1].strip()

        if (self._must_part or (is_blank and above not in self._covered)) and not self._is_first:
            self._lines.append(_Line(""))
        self._must_part = False
        self._source_line = source_line

    def _comments_before(self, place: Place | None) -> None:
        """The comments that stand before a place, or all that are left: each on its line, or after the last one."""
        while self._next < len(self._comments):
            one = self._comments[self._next]
            if place is not None and one.place > place:
                return
            self._next += 1
            if not one.own_line and self._lines and self._lines[-1].takes(one):
                self._lines[-1].comments.append(one.text.rstrip())
            else:
                self._part(one.place.line)
                self._put(one.text.rstrip())
                # A document that documents nothing must not come to stand above something.
                self._must_part = one.is_doc and not self._follows(one)

    def _follows(self, one: Comment) -> bool:
        """Whether the next comment goes on where this one, a line of documentation, ends."""
        if self._next >= len(self._comments):
            return False
        after = self._comments[self._next]
        return after.is_doc and after.own_line and after.place.line == one.place.line + 1

    def _has_comments(self, first: Place, last: Place) -> bool:
        return any(first < one.place < last for one in self._comments[self._next :])

    def _item(self, one: _Documented, text: str) -> None:
        """One thing on its line, with its documentation."""
        docs = self._file.documented.get(one.place, ())
        beside = docs[0] if len(docs) == 1 and not docs[0].own_line else None
        self._comments_before(one.place)  # those between the documentation and the thing too

        written = [comment.text.rstrip() for comment in docs]
        if not docs and not self._source:
            written = [f"/// {line}".rstrip() for line in one.doc.split("\n")] if one.doc else []
        if beside is not None and self._has_comments(one.place, beside.place):
            beside = None
        if written and beside is None:
            self._part(docs[0].place.line if docs and docs[0].own_line else one.place.line)
            for line in written:
                self._put(line)
        else:
            self._part(one.place.line)
        self._put(text)
        self._source_line = one.place.line
        if beside is not None:
            self._lines[-1].comments.append(beside.text.rstrip())

    def _open(self) -> None:
        self._level += 1
        self._is_first = True
        self._must_part = False

    def _close(self, end: Place, text: str) -> None:
        if end != Place():
            self._comments_before(end)
        self._level -= 1
        self._must_part = False
        self._put(text)

    # ---- declarations ---------------------------------------------------------------------------

    def _declaration(self, one: tree.Declaration) -> None:
        match one:
            case tree.Import():
                self._item(one, f"import {_string(one.target) if one.is_path else one.target}")
            case tree.Alias():
                made = f" = {one.type}" if one.type is not None else ""
                self._item(one, f"type {one.name}{made}{_notes(one.annotations)}")
            case tree.Record():
                self._body(one, f"record {one.name}{_notes(one.annotations)} ", one.members, one.end)
            case tree.Enum():
                self._enum(one)
            case tree.Platform():
                self._item(one, f"edge_computing {one.name}{_notes(one.annotations)} {{")
                self._open()
                for section in one.sections:
                    self._section(section)
                self._close(one.end, "}")

    def _body(self, one: _Documented, head: str, members: Sequence[tree.Member], end: Place, tail: str = "") -> None:
        if not members and not self._has_comments(one.place, end):
            self._item(one, f"{head}{{}}{tail}")
            return
        self._item(one, f"{head}{{")
        self._open()
        for member in members:
            self._member(member)
        self._close(end, f"}}{tail}")

    def _member(self, one: tree.Member) -> None:
        tail = _tail(one)
        if one.body is None:
            self._item(one, f"{one.name}: {one.type}{tail}")
        else:
            self._body(one, f"{one.name}: {one.type} ", one.body, one.end, tail)

    def _enum(self, one: tree.Enum) -> None:
        head = f"enum {one.name}{_notes(one.annotations)} {{"
        texts = [_choice(value) for value in one.values]
        line = f"{head} {', '.join(texts)} }}" if texts else f"{head}}}"
        if self._fits(one.place, one.values, one.end, line):
            self._item(one, line)
            return
        self._item(one, head)
        self._open()
        for value, text in zip(one.values, texts, strict=True):
            self._item(value, text)
        self._close(one.end, "}")

    def _fits(self, start: Place, items: Sequence[_Documented], end: Place, line: str) -> bool:
        """Whether what stands in brackets may be on one line."""
        is_begun = not items or items[0].place.line == start.line
        is_plain = not any(item.doc or item.place in self._file.documented for item in items)
        is_short = len(line) + 2 * self._level <= LINE_CHARS_MAX
        return is_begun and is_plain and is_short and not self._has_comments(start, end)

    # ---- sections -------------------------------------------------------------------------------

    def _section(self, one: tree.Section) -> None:
        if isinstance(one.value, str):
            self._item(one, f"{one.name}: {_string(one.value)}")
            return
        members = [item for item in one.value if isinstance(item, tree.Member)]
        entries = [item for item in one.value if isinstance(item, tree.Entry)]
        if members or (not entries and one.name == "state"):
            self._body(one, f"{one.name}: ", members, one.end)
            return
        line = f"{one.name}: [{', '.join(map(_entry, entries))}]"
        is_names = all(item.parameters is None for item in entries)
        if is_names and self._fits(one.place, entries, one.end, line):
            self._item(one, line)
            return
        self._item(one, f"{one.name}: [")
        self._open()
        for i, item in enumerate(entries):
            self._entry(item, "," if i + 1 < len(entries) else "")
        self._close(one.end, "]")

    def _entry(self, one: tree.Entry, comma: str) -> None:
        line = _entry(one) + comma
        parameters = one.parameters or ()
        if not parameters or self._fits(one.place, parameters, one.end, line):
            self._item(one, line)
            return
        returns = f": {one.returns}" if one.returns is not None else ""
        self._item(one, f"{one.name}(")
        self._open()
        for i, item in enumerate(parameters):
            self._item(item, _parameter(item) + ("," if i + 1 < len(parameters) else ""))
        self._close(one.end, f"){returns}{_notes(one.annotations)}{comma}")


def _is_long(one: tree.Declaration) -> bool:
    """Whether it is set apart by blank lines."""
    return isinstance(one, tree.Record | tree.Enum | tree.Platform)


# ---- one line -----------------------------------------------------------------------------------


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _choice(one: tree.EnumValue) -> str:
    return f"{one.name}{f' = {_string(one.written)}' if one.written else ''}{_notes(one.annotations)}"


def _entry(one: tree.Entry) -> str:
    if one.parameters is None:
        return f"{one.name}{_notes(one.annotations)}"
    returns = f": {one.returns}" if one.returns is not None else ""
    return f"{one.name}({', '.join(map(_parameter, one.parameters))}){returns}{_notes(one.annotations)}"


def _parameter(one: tree.Member) -> str:
    return f"{one.name}: {one.type}{_tail(one)}"


def _tail(one: tree.Member) -> str:
    default = f" = {value_text(one.default)}" if one.default is not None else ""
    return f"{default}{_notes(one.annotations)}"


def _notes(annotations: Sequence[tree.Annotation]) -> str:
    return "".join(f" {text}" for text in _each_note(annotations))


def _each_note(annotations: Sequence[tree.Annotation]) -> Iterator[str]:
    for one in annotations:
        arguments = f"({', '.join(map(value_text, one.arguments))})" if one.arguments else ""
        yield f"@{one.name}{arguments}"


def value_text(value: tree.Value) -> str:
    """A value as the language writes it."""
    match value:
        case str():
            return _string(value)
        case tree.Word(text):
            return text
        case tree.Span(_, written):
            return written
        case tree.Range(least, most):
            return f"{'' if least is None else least}..{'' if most is None else most}"
        case tree.Empty():
            return "{}"
        case tuple():
            return f"[{', '.join(map(value_text, value))}]"
    return repr(value)
