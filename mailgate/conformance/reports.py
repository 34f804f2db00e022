"""What came of a run: for a terminal, as JSON, as JUnit XML."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any
from xml.etree import ElementTree

from mailgate.conformance.findings import Result, Verdict
from mailgate.conformance.record import shown
from mailgate.conformance.running import Report

FORMAT, FORMAT_VERSION = "mailgate-conformance", 1
COLOURS = {Verdict.PASS: "32", Verdict.WARN: "33", Verdict.FAIL: "31", Verdict.SKIP: "90"}
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def line(result: Result, *, colours: bool = False, width: int = 28) -> str:
    """Return a result as one line: verdict, id, title, reason."""
    verdict = result.verdict.value
    mark = f"\x1b[{COLOURS[result.verdict]}m{verdict}\x1b[0m" if colours else verdict
    reason = f": {result.reason}" if result.reason else ""
    return f"{mark}  {result.check.id:<{width}}  {result.check.title}{_safe(reason)}"


def details(result: Result) -> list[str]:
    """Return what stands below a finding: statement, what was done, what was said."""
    check = result.check
    return [f"  {check.level.value}, {check.section}", f"  {check.done}",
            *(f"  {_safe(str(event))}" for event in result.events)]


def summary(report: Report) -> str:
    """Return the last line."""
    counts = ", ".join(f"{report.count(verdict)} {verdict.value}" for verdict in Verdict)
    return f"{len(report.results)} checks in {report.seconds:.1f} s: {counts}"


def as_json(report: Report) -> str:
    """Return all of it; the form is told in the manual, and `version` counts what breaks readers of it."""
    met = report.met
    found: dict[str, Any] = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "server": {
            "host": report.target.host,
            "port": report.target.port,
            "tls": report.target.tls,
            "greeting": shown(met.greeting.rstrip(b"\r\n")),
            "capabilities": met.before,
            "capabilities_after_login": met.after,
        },
        "began": _moment(report.began),
        "seconds": round(report.seconds, 3),
        "summary": {verdict.value: report.count(verdict) for verdict in Verdict},
        "notices": report.notices,
        "checks": [_check_as_json(result) for result in report.results],
    }
    return json.dumps(found, indent=1, ensure_ascii=True) + "\n"


def _check_as_json(result: Result) -> dict[str, Any]:
    check = result.check
    return {
        "id": check.id,
        "profile": check.profile,
        "level": check.level.value,
        "section": check.section,
        "title": check.title,
        "done": check.done,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "seconds": round(result.seconds, 4),
        "exchange": [event._asdict() for event in result.events],
    }


def as_junit(report: Report) -> bytes:
    """Return JUnit's XML: a suite a profile; a warning is a passed case that says so in its output."""
    root = ElementTree.Element(
        "testsuites", name="mailgate conformance", time=f"{report.seconds:.3f}",
        tests=str(len(report.results)), failures=str(report.count(Verdict.FAIL)),
        skipped=str(report.count(Verdict.SKIP)))
    for profile in dict.fromkeys(result.check.profile for result in report.results):
        results = [result for result in report.results if result.check.profile == profile]
        suite = ElementTree.SubElement(
            root, "testsuite", name=profile, tests=str(len(results)), errors="0",
            failures=str(sum(one.verdict is Verdict.FAIL for one in results)),
            skipped=str(sum(one.verdict is Verdict.SKIP for one in results)),
            time=f"{sum(one.seconds for one in results):.3f}", timestamp=_moment(report.began))
        for result in results:
            _case(suite, result)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _case(suite: ElementTree.Element, result: Result) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"pop3.{result.check.profile}", time=f"{result.seconds:.3f}",
        name=f"{result.check.id} {result.check.title}")
    reason = _NO_XML.sub("?", result.reason)
    text = _NO_XML.sub("?", "\n".join(details(result)))
    if result.verdict is Verdict.FAIL:
        ElementTree.SubElement(case, "failure", message=reason, type=result.check.level.value).text = text
    elif result.verdict is Verdict.SKIP:
        ElementTree.SubElement(case, "skipped", message=reason)
    elif result.verdict is Verdict.WARN:
        ElementTree.SubElement(case, "system-out").text = f"warning: {reason}\n{text}"


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _safe(text: str) -> str:
    """Return text without anything that could steer a terminal."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
