"""What every reference page has: its style, a few lines of script, and the pieces it is put together from."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5a6575; --paper: #fff; --tint: #f4f6f9; --line: #dde2ea;
  --link: #0b5fb0; --edge: #0b6e4f; --cloud: #6a3fb5; --any: #9a5b00; --warn: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #9aa5b5; --paper: #14181f; --tint: #1d232d;
  --line: #323b49; --link: #79b8ff; --edge: #5fd0a5; --cloud: #c0a3f5; --any: #f0b35c; --warn: #ff8a80; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
header, .bar, main { padding: 0 1.25rem; max-width: 76rem; margin: 0 auto; }
header { padding-top: 1.75rem; padding-bottom: .75rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1.08rem; margin: 0; display: flex; flex-wrap: wrap; gap: .3rem .6rem; align-items: center;
  overflow-wrap: anywhere; }
h3 a { color: inherit; }
p { margin: .4rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.bar-back { position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--line); }
.bar { display: flex; gap: .75rem 1rem; align-items: center; padding-top: .6rem; padding-bottom: .6rem; }
.bar nav { display: flex; gap: 1rem; white-space: nowrap; overflow-x: auto; }
.bar input { flex: 1 1 9rem; min-width: 0; max-width: 22rem; margin-left: auto; font: inherit; padding: .35rem .7rem;
  color: inherit; background: var(--tint); border: 1px solid var(--line); border-radius: .5rem; }
.count { min-width: 4.5rem; font-size: .85rem; }
.columns { display: grid; grid-template-columns: 14rem minmax(0, 1fr); gap: 2.5rem; }
.index { position: sticky; top: 4.2rem; align-self: start; max-height: calc(100vh - 5rem); overflow-y: auto;
  font-size: .875rem; padding: 1.75rem 0 1rem; }
.index b { display: block; margin: .8rem 0 .15rem; }
.index b:first-child { margin-top: 0; }
.index a { display: block; padding: .1rem 0; overflow-wrap: anywhere; }
article { border: 1px solid var(--line); border-radius: .7rem; padding: 1rem 1.15rem; margin: 0 0 1rem; }
article:target { border-color: var(--link); box-shadow: 0 0 0 1px var(--link); }
.tag { font-size: .75rem; font-weight: 600; line-height: 1.5; padding: 0 .5rem; border-radius: 1rem;
  border: 1px solid currentColor; color: var(--soft); white-space: nowrap; }
.tag.edge { color: var(--edge); } .tag.cloud { color: var(--cloud); } .tag.any { color: var(--any); }
.tag.warn { color: var(--warn); }
code, pre { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: .875em; }
table { border-collapse: collapse; min-width: min(100%, 34rem); margin: .6rem 0; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
th { font-weight: 600; color: var(--soft); font-size: .82rem; white-space: nowrap; }
td p { margin: 0; } tr:last-child td { border-bottom: 0; } td:first-child { white-space: nowrap; }
.line { display: flex; align-items: flex-start; margin: .5rem 0; background: var(--tint); border-radius: .5rem; }
.line pre { flex: 1; min-width: 0; margin: 0; padding: .6rem .8rem; overflow-x: auto; }
.line pre.long { max-height: 24rem; overflow-y: auto; }
.line button { margin: .4rem .4rem .4rem 0; font: inherit; font-size: .78rem; cursor: pointer; color: var(--soft);
  background: var(--paper); border: 1px solid var(--line); border-radius: .4rem; padding: .1rem .55rem; }
.line button:hover, .line button:focus-visible { color: var(--ink); border-color: var(--soft); }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
[hidden] { display: none !important; }
@media (max-width: 52rem) {
  .columns { display: block; } .index { display: none; }
  header, .bar, main { padding-left: .9rem; padding-right: .9rem; }
  .bar { flex-wrap: wrap; } .bar input { order: 2; flex-basis: 60%; max-width: none; margin-left: 0; }
  .count { order: 3; } .bar nav { flex-basis: 100%; } html { scroll-padding-top: 7rem; }
}
@media (max-width: 40rem) {
  table, tbody, tr, td { display: block; } thead { display: none; }
  tr { padding: .45rem 0; border-bottom: 1px solid var(--line); } tr:last-child { border-bottom: 0; }
  td { border: 0; padding: .05rem 0; } td:empty { display: none; } td:first-child { white-space: normal; }
  td[data-of]:not(:first-child)::before { content: attr(data-of) " "; color: var(--soft); font-size: .82rem; }
  td p { display: inline; } article { padding: .85rem .9rem; }
}
@media print { .bar-back, .index, .line button { display: none; } .columns { display: block; } }
"""

SCRIPT = """
const box = document.getElementById("search"), count = document.getElementById("count");
const items = [...document.querySelectorAll("article")].map(one => [one, one.textContent.toLowerCase()]);
const links = new Map([...document.querySelectorAll(".index a")].map(one => [one.hash.slice(1), one]));
function search() {
  const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let found = 0;
  for (const [item, text] of items) {
    item.hidden = !words.every(word => text.includes(word));
    if (links.has(item.id)) links.get(item.id).hidden = item.hidden;
    if (!item.hidden) found += 1;
  }
  for (const part of document.querySelectorAll("section")) {
    part.hidden = words.length > 0 && !part.querySelector("article:not([hidden])");
  }
  count.textContent = words.length ? found + " of " + items.length : "";
}
function show() {
  const item = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (item && item.closest("[hidden]")) { box.value = ""; search(); item.scrollIntoView(); }
}
box.addEventListener("input", search);
addEventListener("hashchange", show);
addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) { event.preventDefault(); box.focus(); }
  if (event.key === "Escape" && document.activeElement === box) { box.value = ""; search(); }
});
function mark(text) {
  const range = document.createRange();
  range.selectNodeContents(text);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  const text = button.parentElement.querySelector("pre");
  const done = word => { button.textContent = word; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
  if (!navigator.clipboard) { mark(text); done("Marked"); return; }
  navigator.clipboard.writeText(text.textContent).then(() => done("Copied"), () => { mark(text); done("Marked"); });
});
search();
"""


def page(title: str, header: str, navigation: str, index: str, body: str) -> str:
    """The whole document. Its policy lets nothing be loaded, and no script run but ours."""
    policy = (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_hash(STYLE)}'; script-src 'sha256-{_hash(SCRIPT)}'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{text(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>{header}</header>
<div class="bar-back"><div class="bar">
<nav aria-label="Parts">{navigation}</nav>
<input id="search" type="search" placeholder="Search ( / )" aria-label="Search" autocomplete="off">
<span id="count" class="count soft" role="status"></span>
</div></div>
<main><div class="columns">
<nav class="index" aria-label="Everything by name">{index}</nav>
<div>{body}</div>
</div></main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def text(value: str) -> str:
    """A text as it shall be read, whatever stands in it."""
    return html.escape(value, quote=True)


def paragraphs(doc: str) -> str:
    """A documentation comment: blank lines part paragraphs, backticks mark code."""
    parts = [" ".join(part.split()) for part in doc.split("\n\n") if part.strip()]
    return "".join(f"<p>{_code(text(part))}</p>" for part in parts)


def _code(escaped: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)


def tag(word: str, kind: str = "") -> str:
    return f'<span class="tag{f" {kind}" if kind else ""}">{text(word)}</span>'


def line(shown: str, *, long: bool = False) -> str:
    """Something to copy: a command, an example."""
    kind = ' class="long" tabindex="0"' if long else ""
    return f'<div class="line"><pre{kind}>{text(shown)}</pre><button type="button">Copy</button></div>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already. A column that has nothing in it is left out."""
    cells = [list(row) for row in rows]
    kept = [at for at in range(len(titles)) if at == 0 or any(row[at] for row in cells)]
    if not cells:
        return ""
    head = "".join(f"<th>{text(titles[at])}</th>" for at in kept)
    body = "".join("<tr>" + "".join(_cell(titles[at], row[at]) for at in kept) + "</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(title: str, content: str) -> str:
    return f'<td data-of="{text(title)}">{content}</td>'


def article(anchor: str, name: str, tags: Iterable[str], body: str) -> str:
    title = f'<h3><a href="#{text(anchor)}"><code>{text(name)}</code></a>{"".join(tags)}</h3>'
    return f'<article id="{text(anchor)}">{title}{body}</article>\n'


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
