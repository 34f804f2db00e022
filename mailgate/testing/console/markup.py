"""HTML of a message, made harmless: what is not known is left out, and all that is kept is written anew.

This is the first of three walls. The frame that shows the result runs no script (`sandbox`), and its own
Content-Security-Policy lets nothing be fetched.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape
from html.parser import HTMLParser

from mailgate.testing.console.letters import PICTURES, Letter, visible

MOST_CHARACTERS = 256 * 1024        # of HTML that is rendered: more would hold the harness up
MOST_PICTURE_OCTETS = 4 * 1024 * 1024   # of all pictures together, that are put into the page
FRAME_POLICY = ("sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
                "form-action 'none'; frame-ancestors 'self'")
_KEPT = frozenset((
    "a", "abbr", "acronym", "address", "article", "aside", "b", "bdi", "bdo", "big", "blockquote", "br",
    "caption", "center", "cite", "code", "col", "colgroup", "dd", "del", "dfn", "div", "dl", "dt", "em",
    "figcaption", "figure", "font", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "i",
    "img", "ins", "kbd", "li", "main", "mark", "nav", "ol", "p", "pre", "q", "s", "samp", "section",
    "small", "span", "strike", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead",
    "time", "tr", "tt", "u", "ul", "var", "wbr"))
_EMPTY = frozenset(("br", "col", "hr", "img", "wbr"))
# left out with all that stands between their tags
_DROPPED = frozenset((
    "script", "noscript", "iframe", "frameset", "noframes", "object", "applet", "svg", "math", "template",
    "audio", "video", "canvas", "map", "title", "textarea", "select"))
_ATTRIBUTES = frozenset((
    "title", "dir", "lang", "align", "valign", "width", "height", "bgcolor", "color", "face", "size",
    "border", "cellpadding", "cellspacing", "colspan", "rowspan", "alt", "start", "type", "style", "span"))
_ACTIVE = frozenset((
    "script", "iframe", "frame", "frameset", "object", "applet", "embed", "svg", "math", "form", "input",
    "button", "link", "meta", "base", "audio", "video", "source"))
# styles that fetch, that run in old browsers, that hide what they are, or that leave their place
_REMOTE = re.compile(
    r"(?i)@import|(url|image-set|image)\s*\(|expression|behavior|-moz-binding|\\|<|position\s*:")


class Cleaner(HTMLParser):
    """Feed it HTML; `pieces` is what may be shown. Counts what was left out."""

    def __init__(self, pictures: Mapping[str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self._pictures = pictures       # data: addresses, by Content-ID
        self._inside: list[str] = []    # elements that are left out with their content
        self._in_style = False
        self.pieces: list[str] = []
        self.remote = 0                 # pictures and styles that lie elsewhere
        self.active = 0                 # what would do something

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag, or not."""
        if tag in _ACTIVE or any(name.startswith("on") for name, _ in attrs):
            self.active += 1
        if tag in _DROPPED:
            self._inside.append(tag)
        elif self._inside:
            return
        elif tag == "style":
            self._in_style = True
        elif tag == "img":
            self._picture({name: value or "" for name, value in attrs})
        elif tag in _KEPT:
            self.pieces.append(f"<{tag}{self._attributes(tag, attrs)}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that ends itself: HTML means nothing by it, but in foreign content."""
        if tag not in _DROPPED:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """End what was begun."""
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass
        elif tag == "style":
            self._in_style = False
        elif tag in _KEPT and tag not in _EMPTY and not self._inside:
            self.pieces.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        """Text, or a style sheet."""
        if self._inside:
            return
        if not self._in_style:
            self.pieces.append(escape(data, quote=False))
        elif _REMOTE.search(data):
            self.remote += 1
        else:
            self.pieces.append(f"<style>{data}</style>")

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> str:
        kept = []
        for name, value in attrs:
            value = value or ""
            if tag == "a" and name == "href":       # shown, and leads nowhere
                kept.append(("title", visible(value)))
            elif name == "background":
                self.remote += 1
            elif name == "style":
                kept.append((name, self._style(value)))
            elif name in _ATTRIBUTES and not (tag == "a" and name == "title"):
                kept.append((name, value))
        return "".join(f' {name}="{escape(value)}"' for name, value in kept)

    def _style(self, text: str) -> str:
        wanted = text.split(";")
        kept = [one for one in wanted if not _REMOTE.search(one)]
        self.remote += sum("url" in one.lower() for one in wanted) - sum("url" in one.lower() for one in kept)
        return ";".join(kept)

    def _picture(self, attributes: Mapping[str, str]) -> None:
        source = attributes.get("src", "").strip()
        alt = visible(attributes.get("alt", ""))
        kept = {name: attributes[name] for name in ("width", "height") if name in attributes}
        if source.lower().startswith("cid:"):
            address = self._pictures.get(source[4:], "")
        else:
            address = source if source.lower().startswith(
                tuple(f"data:{kind};base64," for kind in PICTURES)) else ""
            self.remote += not address
        if not address:
            self.pieces.append(f'<span class="left-out">[picture: {escape(alt or "left out")}]</span>')
            return
        more = "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
        self.pieces.append(f'<img src="{escape(address)}" alt="{escape(alt)}"{more}>')


def clean(letter: Letter) -> Cleaner:
    """Return what may be shown of a message's HTML. It has some."""
    part = letter.shown("text/html")
    assert part is not None, "whoever asks has looked"
    cleaner = Cleaner(_pictures(letter))
    text = part.text
    cleaner.feed(text[:MOST_CHARACTERS])
    cleaner.close()
    if len(text) > MOST_CHARACTERS:
        cleaner.pieces.append('<p class="left-out">[the rest is left out here: see the source]</p>')
    return cleaner


def page_of(letter: Letter) -> bytes:
    """Return a page for the frame."""
    body = "".join(clean(letter).pieces)
    return ('<!doctype html><html><head><meta charset="utf-8"><title>HTML part</title><style>'
            "body{margin:12px;font:15px/1.5 system-ui,sans-serif;color:#17202a;background:#fff;"
            "overflow-wrap:anywhere}img{max-width:100%}table{max-width:100%}a{text-decoration:underline}"
            ".left-out{color:#57606a;border:1px dashed #8c959f;padding:1px 4px}"
            f"</style></head><body>{body}</body></html>").encode("utf-8", "replace")


def _pictures(letter: Letter) -> dict[str, str]:
    found: dict[str, str] = {}
    room = MOST_PICTURE_OCTETS
    for part in letter.parts:
        if part.content_id and part.type in PICTURES and len(part.octets) <= room:
            room -= len(part.octets)
            found[part.content_id] = f"data:{part.type};base64,{base64.b64encode(part.octets).decode()}"
    return found
