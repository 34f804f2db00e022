"""Messages made fit for a page: read whatever they are, and nothing of them left that could do anything."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.console.letters import MOST_PARTS, decoded, read_letter, visible
from mailgate.testing.console.markup import clean, page_of
from mailgate.testing.console.pages import told

PIECES = [
    "<script>", "</script>", "<style>", "</style>", "<svg>", "</svg>", "<math>", "<p onclick=a>", "<!--",
    "<img src=x onerror=b>", "<a href='javascript:c'>", "<iframe srcdoc='<script>d</script>'>", "<![CDATA[",
    "]]>", "<title>", "<textarea>", "</textarea>", "<form action=e>", "<input autofocus onfocus=f>", "-->",
    "\"", "'",
    "<body onload=g>", ">", "<", "&lt;", "&#60;script&#62;", "text", "<p style='background:url(h)'>",
    "<template>", "<noscript>", "</noscript>", "<table background=i>", "<object data=j>", "<plaintext>",
    "<b title='\"><script>'>", "<xmp>", "\x00", "</p", "<img src='data:image/svg+xml;base64,AA'>"]
FORBIDDEN = ("script", "iframe", "object", "embed", "form", "input", "link", "base", "svg", "math",
             "template", "button", "frame", "applet", "plaintext", "xmp", "textarea", "video", "audio")
LEADING = ("href", "srcdoc", "action", "background", "srcset", "data", "ping")
PICTURES = ("data:image/png", "data:image/jpeg", "data:image/gif")


class Judge(HTMLParser):
    """Finds what could do something."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in FORBIDDEN:
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in LEADING:
                self.found.append(f"{tag} {name}")
            if name == "src" and not (value or "").startswith(PICTURES):
                self.found.append(f"src {value}")
            if name == "style" and "url" in (value or ""):
                self.found.append(f"style {value}")


def html(markup: str) -> bytes:
    return b"Content-Type: text/html; charset=utf-8\r\n\r\n" + markup.encode("utf-8", "surrogatepass")


class ReadingTests(SynchronousTestCase):
    def test_structure(self) -> None:
        """Text, HTML, what is attached, a message within; names decoded, and what cannot be seen told."""
        letter = read_letter(b"""From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>
Subject: =?utf-8?b?4oCuZXhl?=
 =?utf-8?q?_two?=
Content-Type: multipart/mixed; boundary=a

--a
Content-Type: text/plain; charset=iso-8859-1

\xfc
--a
Content-Type: text/html

<b>x</b>
--a
Content-Type: application/pdf; name="a.pdf"
Content-Transfer-Encoding: base64

JVBERg==
--a
Content-Type: message/rfc822

Subject: in

in
--a--
""")
        self.assertEqual([(part.type, part.name, part.octets[:6]) for part in letter.parts], [
            ("text/plain", "", b"\xfc"), ("text/html", "", b"<b>x</"), ("application/pdf", "a.pdf", b"%PDF"),
            ("message/rfc822", "", b"Subjec")])
        self.assertEqual([part.number for part in letter.attachments], [2, 3])
        self.assertEqual((letter.shown("text/plain").text, letter.first("from")),
                         ("\xfc", "J\xfcrgen <j@example.org>"))
        self.assertEqual(visible(letter.first("subject")), "\u27e8U+202E\u27e9exe two")

    def test_bombs(self) -> None:
        """Parts without end, and without bottom, are told and not followed."""
        many = b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * (MOST_PARTS + 50)
        self.assertEqual(len(read_letter(many).parts), MOST_PARTS)
        self.assertIn("more parts", read_letter(many).problem)
        deep = b"".join(b"Content-Type: multipart/mixed; boundary=a%d\n\n--a%d\n" % (one, one)
                        for one in range(1500))
        self.assertIn("see the source", read_letter(deep).problem)

    @given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from([
        b"Content-Type: multipart/mixed; boundary=a\r\n", b"Content-Type: text/html; charset=utf-16\r\n",
        b"--a\r\n", b"\r\n", b"--a--", b"Content-Transfer-Encoding: base64\r\n", b"=?utf-8?b?=?=",
        b"Content-Disposition: attachment; filename*=x''%ff\r\n", b"Subject: =?nosuch?q?a?=\r\n",
        b"Content-Type: message/rfc822\r\n", b"\xff\xfe", b"x" * 80]), max_size=14).map(b"".join)))
    @settings(deadline=None, max_examples=150)
    def test_anything(self, content: bytes) -> None:
        """Any octets are shown somehow."""
        shown = told(content)
        json.dumps(shown)
        self.assertEqual(shown["octets"], len(content))
        decoded(content.decode("latin-1"))


class CleanerTests(SynchronousTestCase):
    @given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=14).map("".join))
    @settings(deadline=None, max_examples=300)
    def test_nothing_active(self, markup: str) -> None:
        """Whatever is put together: no element and no attribute is left that runs, sends or fetches."""
        judge = Judge()
        page = page_of(read_letter(html(markup))).decode()
        judge.feed(page.partition("<body>")[2])
        self.assertEqual(judge.found, [])

    def test_kept(self) -> None:
        """What a letter is made of stays: text, tables, colours, pictures that came with it."""
        content = b"""Content-Type: multipart/related; boundary=a

--a
Content-Type: text/html

<h1 style='color:red;background:url(x)'>T</h1><table border=1><tr><td colspan=2>c &lt;&amp;</td></tr></table>
<img src='cid:p@x' alt='P'><img src='http://x/'><a href='http://y/'>l</a>
--a
Content-Type: image/png
Content-ID: <p@x>
Content-Transfer-Encoding: base64

AAEC
--a--
"""
        cleaner = clean(read_letter(content))
        text = "".join(cleaner.pieces)
        self.assertIn('<h1 style="color:red">T</h1><table border="1"><tr><td colspan="2">c &lt;&amp;</td>',
                      text)
        self.assertIn('<img src="data:image/png;base64,AAEC" alt="P">', text)
        self.assertIn('<a title="http://y/">l</a>', text)
        self.assertEqual((cleaner.remote, cleaner.active), (2, 0))
