"""What the API does to a harness, seen by a client over HTTP, and what it tells of him."""

from __future__ import annotations

import base64
import poplib
import threading
import time

from mailgate.testing import scenarios
from mailgate.testing.trouble.kinds import KINDS
from tests.testing.api.base import ApiCase, Reply, request


class MailTests(ApiCase):
    def test_account_can_log_in(self) -> None:
        """An account that was added over HTTP is one: with each of its passwords, which are not shown."""
        reply = self.ask(201, "POST", "/accounts", {"name": "mrose", "passwords": ["one"], "password": "two"})
        self.assertEqual(reply.json["addresses"], ["mrose@mail.example.org"])
        self.assertNotIn(b"two", reply.octets)
        for password in ("one", "two"):
            self.client(password=password).quit()
        listed = self.ask(200, "GET", "/accounts").json["accounts"]
        self.assertEqual([one["name"] for one in listed], ["mrose"])
        self.assertEqual(self.ask(409, "POST", "/accounts", {"name": "MROSE"}).json["problems"], [])

    def test_account_is_removed(self) -> None:
        """Once removed it cannot log in; twice it cannot be removed, nor while a session has the maildrop."""
        self.filled()
        client = self.client()
        self.ask(409, "DELETE", "/accounts/mrose")
        client.quit()
        self.ask(204, "DELETE", "/accounts/mrose")
        self.ask(404, "DELETE", "/accounts/mrose")
        self.assertRaises(poplib.error_proto, self.client)

    def test_sdps_host(self) -> None:
        """A host receives for all its users, and each sees his own."""
        self.ask(201, "POST", "/accounts", {"name": "anchor", "password": "secret", "sdps": True})
        for user in ("ann", "bob"):
            self.ask(201, "POST", "/maildrops/anchor/messages", {
                "content": f"Subject: {user}\n\n", "recipient": f"{user}@anchor.mail.example.org",
                "sender": "x@example.net"})
        client = self.client("bob+anchor")
        self.assertEqual(client.retr(1)[1][0], b"Subject: bob")
        self.assertEqual(client.stat()[0], 1)

    def test_message_comes_as_it_was_put(self) -> None:
        """By text, by Base64 and as message/rfc822; envelope, unique-id and time as they were given."""
        self.filled(0)
        self.ask(201, "POST", "/maildrops/mrose/messages", {"content": "Subject: \u00e4\n\n.dot\n"})
        self.ask(201, "POST", "/maildrops/mrose/messages", {
            "content_base64": base64.b64encode(b"Subject: b\r\n\r\n\xff\x00\r\n").decode()})
        reply = self.ask(
            201, "POST",
            "/maildrops/mrose/messages?unique_id=a%2Fb%25&sender=x@y.example&arrived=1000000000.5",
            b"Subject: c\n\n", {"Content-Type": "message/rfc822"})
        self.assertEqual(reply.headers["Location"].rpartition("/api/v1")[2],
                         "/maildrops/mrose/messages/a%2Fb%25")
        client = self.client()
        self.assertEqual([client.retr(number)[1] for number in (1, 2, 3)], [
            ["Subject: \u00e4".encode(), b"", b".dot"], [b"Subject: b", b"", b"\xff\x00"],
            [b"Subject: c", b""]])
        self.assertEqual(client.uidl(3), b"+OK 3 a/b%")
        found = self.ask(200, "GET", "/maildrops/mrose/messages/a%2Fb%25").json
        self.assertEqual((found["sender"], found["arrived"], found["number"], found["content"]),
                         ("x@y.example", 1000000000.5, 3, "Subject: c\r\n\r\n"))

    def test_message_is_read(self) -> None:
        """Content that is no text comes in Base64 alone; with Accept the octets themselves."""
        self.filled(0)
        unique_id = self.server.maildrop("mrose").add(b"Subject: b\r\n\r\n\xff\r\n")
        found = self.ask(200, "GET", f"/maildrops/mrose/messages/{unique_id}").json
        self.assertEqual((found["content"], base64.b64decode(found["content_base64"])),
                         (None, b"Subject: b\r\n\r\n\xff\r\n"))
        raw = self.ask(200, "GET", f"/maildrops/mrose/messages/{unique_id}", headers={
            "Accept": "message/rfc822"})
        self.assertEqual((raw.octets, raw.headers["Content-Type"]),
                         (b"Subject: b\r\n\r\n\xff\r\n", "message/rfc822"))
        self.ask(404, "GET", "/maildrops/mrose/messages/none")

    def test_messages_in_pages(self) -> None:
        """A maildrop's messages come in pages, and are counted."""
        self.filled(5)
        first = self.ask(200, "GET", "/maildrops/mrose/messages?limit=2").json
        self.assertEqual(([one["number"] for one in first["messages"]], first["more"]), ([1, 2], True))
        rest = self.ask(200, "GET", "/maildrops/mrose/messages?limit=3&after=2").json
        self.assertEqual(([one["number"] for one in rest["messages"]], rest["more"]), ([3, 4, 5], False))
        self.assertEqual(self.ask(200, "GET", "/maildrops").json["maildrops"], [
            {"name": "mrose", "messages": 5, "octets": sum(one["octets"] for one in (
                *first["messages"], *rest["messages"]))}])

    def test_messages_are_removed(self) -> None:
        """One, or all; also from under a session."""
        self.filled(3)
        client = self.client()
        unique_ids = [one.split()[1].decode() for one in client.uidl()[1]]
        self.ask(204, "DELETE", f"/maildrops/mrose/messages/{unique_ids[1]}")
        self.ask(404, "DELETE", f"/maildrops/mrose/messages/{unique_ids[1]}")
        self.assertRaises(poplib.error_proto, client.retr, 2)
        self.ask(204, "DELETE", "/maildrops/mrose/messages")
        self.assertEqual(self.server.maildrop("mrose").unique_ids, [])

    def test_unique_id_in_use(self) -> None:
        """A unique-id that another message has is refused: it would get another one unseen."""
        self.filled(0)
        for status in (201, 409):
            self.ask(status, "POST", "/maildrops/mrose/messages", {"content": "x\n", "unique_id": "same"})

    def test_samples(self) -> None:
        """Messages that clients stumble over are put in by name."""
        self.filled(0)
        names = [one["name"] for one in self.ask(200, "GET", "/samples").json["samples"]]
        self.assertIn("dots", names)
        added = self.ask(201, "POST", "/maildrops/mrose/samples", {"sample": "dots x 3"}).json["messages"]
        self.assertEqual([one["unique_id"] for one in added], self.server.maildrop("mrose").unique_ids)
        self.assertEqual(len(added), 3)
        reply = self.ask(422, "POST", "/maildrops/mrose/samples", {"sample": "no-such"})
        self.assertEqual(reply.places, ["sample"])
        self.ask(422, "POST", "/maildrops/mrose/samples", {"sample": "dots x 1000000000"})


class TroubleTests(ApiCase):
    def test_fault_breaks_the_client(self) -> None:
        """A fault that was switched on over HTTP acts, is counted, and is switched off."""
        self.filled()
        reply = self.ask(201, "POST", "/faults", {"do": "error", "command": "RETR", "code": "IN-USE"})
        self.assertEqual(reply.headers["Location"].rpartition("/api/v1")[2], "/faults/1")
        client = self.client()
        self.assertIn("IN-USE", str(self.assertRaises(poplib.error_proto, client.retr, 1)))
        found = self.ask(200, "GET", "/faults").json["faults"]
        self.assertEqual([(one["id"], one["do"], one["acted"], one["command"], one["settings"]["code"])
                          for one in found], [(1, "error", 1, "RETR", "IN-USE")])
        self.assertEqual(self.ask(200, "GET", "/faults/1").json, found[0])
        self.ask(204, "DELETE", "/faults/1")
        self.assertEqual(client.retr(1)[1][0], b"Subject: 1")
        self.ask(404, "DELETE", "/faults/1")
        self.ask(404, "GET", "/faults/x")

    def test_fault_that_is_wrong(self) -> None:
        """Each problem of a fault is told with its place, as the tables of a scenario have it."""
        self.assertEqual(self.ask(422, "POST", "/faults", {"do": "clos"}).json["problems"], [
            {"path": "do", "message": "no such kind of fault; did you mean close?"}])
        reply = self.ask(422, "POST", "/faults", {"do": "close", "ocurrence": 1, "session": 0})
        self.assertEqual(reply.places, ["ocurrence", "session"])
        self.assertEqual(self.ask(422, "POST", "/faults", {}).places, ["do"])

    def test_kinds(self) -> None:
        """Every kind of fault is listed, with what it is told."""
        kinds = {one["name"]: one for one in self.ask(200, "GET", "/kinds").json["kinds"]}
        self.assertEqual(set(kinds), set(KINDS))
        self.assertEqual({one["name"] for one in kinds["close"]["settings"]}, set(KINDS["close"].settings))

    def test_scenario_inline(self) -> None:
        """As JSON or TOML it replaces all faults; switched off, nothing is left."""
        self.ask(201, "POST", "/faults", {"do": "error"})
        written = {"name": "mine", "seed": 3, "fault": [{"do": "error", "command": "DELE", "session": 2}]}
        shown = self.ask(200, "PUT", "/scenario", written).json
        self.assertEqual([one["command"] for one in shown["faults"]], ["DELE"])
        self.assertEqual({name: shown["scenario"][name] for name in ("name", "seed")},
                         {"name": "mine", "seed": 3})
        toml = b'name = "other"\n[[fault]]\ndo = "error"\ncommand = "TOP"\n'
        self.ask(200, "PUT", "/scenario", toml, {"Content-Type": "application/toml"})
        shown = self.ask(200, "GET", "/scenario").json
        self.assertEqual((shown["scenario"]["name"], [one["command"] for one in shown["faults"]]),
                         ("other", ["TOP"]))
        self.ask(204, "DELETE", "/scenario")
        self.assertEqual(self.ask(200, "GET", "/scenario").json, {"scenario": None, "faults": []})

    def test_scenario_can_be_given_back(self) -> None:
        """What is shown of a scenario is one that can be put again and is the same."""
        one = {"name": "mine", "fault": [{"do": "error", "command": "DELE", "session": [1, 2], "code": "X"}]}
        shown = self.ask(200, "PUT", "/scenario", one).json
        self.assertEqual(self.ask(200, "PUT", "/scenario", shown["scenario"]).json, shown)

    def test_scenario_that_is_wrong(self) -> None:
        """Problems have their places; what was on stays on."""
        self.ask(201, "POST", "/faults", {"do": "error"})
        self.assertEqual(self.ask(422, "PUT", "/scenario", {
            "name": "x", "fault": [{"do": "error"}, {"do": "error", "codes": 1}]}).places, ["fault[1].codes"])
        self.assertEqual(self.ask(422, "PUT", "/scenario", {"name": "no-such-server"}).places, ["name"])
        self.ask(422, "PUT", "/scenario", b"[[fault", {"Content-Type": "application/toml"})
        self.ask(422, "PUT", "/scenario", b"\xff", {"Content-Type": "application/toml"})
        self.assertEqual(len(self.ask(200, "GET", "/faults").json["faults"]), 1)

    def test_library(self) -> None:
        """All scenarios are listed, and each can be read and switched on by name."""
        names = [one["name"] for one in self.ask(200, "GET", "/scenarios").json["scenarios"]]
        self.assertEqual(names, scenarios.names())
        for name in names[:1]:
            shown = self.ask(200, "GET", f"/scenarios/{name}").json
            self.assertEqual(self.ask(200, "PUT", "/scenario", {"name": name}).json["scenario"], shown)
        self.ask(404, "GET", "/scenarios/no-such-server")


class SessionTests(ApiCase):
    def test_what_the_client_did(self) -> None:
        """Commands, logins, what was fetched and removed; passwords masked unless they are asked for."""
        self.filled(2)
        client = self.client()
        client.retr(1)
        client.dele(1)
        client.quit()
        found = self.ask(200, "GET", "/sessions/1?wait=ended").json
        self.assertEqual(found["verbs"], ["USER", "PASS", "RETR", "DELE", "QUIT"])
        self.assertEqual((found["end"], found["open"], found["user"], len(found["deleted"])),
                         ("QUIT", False, "mrose", 1))
        self.assertEqual(found["deleted"], found["retrieved"])
        self.assertTrue(all(one["succeeded"] for one in found["logins"]))
        for path in ("/sessions", "/sessions/latest", "/sessions/1/events", "/sessions/1/transcript"):
            self.assertNotIn(b"secret", self.without_base64(self.ask(200, "GET", path)), path)
            self.assertIn(b"secret", self.ask(200, "GET", path + "?secrets=true").octets, path)

    def without_base64(self, reply: Reply) -> bytes:
        self.assertNotIn(base64.b64encode(b"PASS secret\r\n"), reply.octets)
        return reply.octets

    def test_transcript(self) -> None:
        """It reads as the conversation did."""
        self.filled()
        self.client().quit()
        reply = self.ask(200, "GET", "/sessions/latest/transcript")
        self.assertEqual(reply.headers["Content-Type"], "text/plain; charset=utf-8")
        self.assertIn("C: USER mrose", reply.octets.decode())

    def test_events_in_pages(self) -> None:
        """A session's events can be read from where one stopped reading."""
        self.filled()
        self.client().quit()
        every = self.ask(200, "GET", "/sessions/1/events").json
        self.assertFalse(every["more"])
        pages, after = [], 0
        while True:
            page = self.ask(200, "GET", f"/sessions/1/events?limit=3&after={after}").json
            pages += page["events"]
            after = page["next"]
            if not page["more"]:
                break
        self.assertEqual(pages, every["events"])
        said = b"".join(base64.b64decode(one["octets"]) for one in pages if one["who"] == "S")
        self.assertTrue(said.startswith(b"+OK mailgate ready\r\n") and said.endswith(b"goodbye\r\n"), said)

    def test_sessions_in_pages(self) -> None:
        """Sessions past the one that is known."""
        self.filled()
        for _ in range(3):
            self.client().quit()
        page = self.ask(200, "GET", "/sessions?wait=idle&after=1&limit=1").json
        self.assertEqual(([one["number"] for one in page["sessions"]], page["more"], page["count"]),
                         ([2], True, 3))
        self.ask(404, "GET", "/sessions/9")
        self.ask(404, "GET", "/sessions/first")

    def test_waiting_for_an_end(self) -> None:
        """The answer comes when the session has begun and ended, be the clock held."""
        self.filled()
        self.server.clock.hold()
        answers: list[Reply] = []
        waiting = threading.Thread(target=lambda: answers.append(
            request("GET", "/sessions/1?wait=ended&timeout=60")))
        waiting.start()
        client = self.client()
        self.assertEqual(answers, [])
        client.quit()
        waiting.join(60)
        self.assertEqual([one.json["end"] for one in answers], ["QUIT"])

    def test_waiting_in_vain(self) -> None:
        """After the timeout, of the world's time, what is so then is answered."""
        self.filled()
        self.server.clock.hold()
        self.ask(404, "GET", "/sessions/1?wait=ended&timeout=0.05")
        self.client()
        began = time.monotonic()
        self.assertTrue(self.ask(200, "GET", "/sessions/1?wait=ended&timeout=0.1").json["open"])
        self.assertGreaterEqual(time.monotonic() - began, 0.1)
        self.assertEqual(self.ask(200, "GET", "/sessions?wait=idle&timeout=0.05").json["open"], 1)

    def test_waiting_until_idle(self) -> None:
        """It is idle once as many sessions as are wanted have been, and none is open."""
        self.filled()
        self.assertEqual(self.ask(200, "GET", "/sessions?wait=idle&timeout=60").json["count"], 0)
        answers: list[Reply] = []
        waiting = threading.Thread(target=lambda: answers.append(
            request("GET", "/sessions?wait=idle&least=2&timeout=60")))
        waiting.start()
        self.client().quit()
        self.client().quit()
        waiting.join(60)
        self.assertEqual([[one["end"] for one in reply.json["sessions"]] for reply in answers],
                         [["QUIT", "QUIT"]])

    def test_who_hangs_up_while_waiting(self) -> None:
        """One who waits and goes leaves nothing behind."""
        self.assertRaises(TimeoutError, request, "GET", "/sessions/1?wait=ended&timeout=60", seconds=0.2)
        self.filled()
        self.client().quit()
        self.assertEqual(self.ask(200, "GET", "/sessions/1?wait=ended").json["end"], "QUIT")
        self.server.wait_for(lambda: len(self.server._harness.records.watchers) == 1)
        self.assertEqual(self.server.problems, [])


class ClockTests(ApiCase):
    def test_held_and_advanced(self) -> None:
        """A held clock moves as it is told; what becomes due has happened when the answer is there."""
        self.filled()
        before = self.ask(200, "PUT", "/clock", {"held": True}).json
        self.assertTrue(before["held"])
        client = self.client()
        after = self.ask(200, "POST", "/clock/advance", {"seconds": 3600}).json
        self.assertEqual(after, {"now": before["now"] + 3600, "held": True})
        self.assertFalse(self.ask(200, "GET", "/sessions/1?wait=ended").json["open"])
        self.assertRaises((OSError, EOFError, poplib.error_proto), client.noop)
        self.assertFalse(self.ask(200, "PUT", "/clock", {"held": False}).json["held"])

    def test_not_back(self) -> None:
        """Time does not go back, nor by what is no number."""
        for wrong in (-1, "1", True, None, 1e300):
            self.assertEqual(self.ask(422, "POST", "/clock/advance", {"seconds": wrong}).places, ["seconds"])


class WholeTests(ApiCase):
    def test_server(self) -> None:
        """Where it listens, and whom a client has to trust."""
        found = self.ask(200, "GET", "/server").json
        self.assertEqual((found["host"], found["ports"]["pop3"]), self.server.pop3)
        with open(found["ca_file"], encoding="ascii") as file:
            self.assertEqual(file.read(), found["ca_pem"])

    def test_reset(self) -> None:
        """Accounts, mail, faults and sessions are gone, connections ended; the ports stay."""
        self.filled()
        client = self.client()
        self.ask(201, "POST", "/faults", {"do": "error", "command": "STAT"})
        self.ask(204, "POST", "/reset")
        self.assertRaises((OSError, EOFError, poplib.error_proto), client.noop)
        self.assertEqual(self.ask(200, "GET", "/sessions?wait=idle").json["count"], 0)
        for path in ("accounts", "maildrops", "faults"):
            self.assertEqual(self.ask(200, "GET", f"/{path}").json[path], [])
        self.filled()
        self.assertEqual(self.client().stat()[0], 1)
