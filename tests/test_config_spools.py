"""[store] maildrops: the mail of other programs, and the settings that go with it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailgate.config import parse
from mailgate.config.values import Location
from tests.test_config import FOLDER, LEAST, problems_of


class SpoolTests(SynchronousTestCase):
    def test_settings(self) -> None:
        """A path with a name in it, and the fields that tell for whom a message was."""
        section = parse((LEAST + """
            [store]
            maildrops = "maildir:/var/vmail/{domain}/{local}"
            envelope_recipient = ["Envelope-To"]
            unique_ids = "courier"
            """).encode(), folder=FOLDER).store
        self.assertEqual(section.maildrops, Location("maildir", "/var/vmail/{domain}/{local}"))
        self.assertEqual((section.envelope_recipient, section.unique_ids.name), (("Envelope-To",), "courier"))
        self.assertIsNone(parse(LEAST.encode(), folder=FOLDER).store.maildrops)

    def test_what_cannot_be(self) -> None:
        """Each with its path, and words that say what can be."""
        for line, where, words in [
            ('maildrops = "/home/{name}"', "store.maildrops", "unknown scheme"),
            ('maildrops = "maildir:"', "store.maildrops", "a path is missing"),
            ('maildrops = "maildir:/home/mail"', "store.maildrops", "all would have the same mail"),
            ('maildrops = "maildir:/home/{user}"', "store.maildrops", "{user} stands for nothing"),
            ('maildrops = "maildir:/home/{name"', "store.maildrops", "a brace"),
            ('maildrops = "maildir:/{name}/../x"', "store.maildrops", "a path with .."),
            ('maildrops = "maildir:/{name}/"', "store.maildrops", "a / at its end"),
            ('maildrops = "maildir:/{name}"\nenvelope_recipient = ["a b"]', "store.envelope_recipient",
             "not the name of a header field"),
            ('maildrops = "maildir:/{name}"\nenvelope_recipient = []', "store.envelope_recipient", "empty"),
            ('envelope_recipient = ["To"]', "store.envelope_recipient", "without `maildrops`"),
            ('maildrops = "maildir:/{name}"\nunique_ids = "popa3d"', "store.unique_ids", "in no Maildir"),
        ]:
            [problem] = problems_of(f"{LEAST}\n[store]\n{line}\n")
            self.assertTrue(problem.startswith(f"{where}: "), (line, problem))
            self.assertIn(words, problem)

    def test_two_stores_in_one_place(self) -> None:
        """Would hold each other's sessions off by no lease."""
        place = 'maildrops = "maildir:/home/{name}"'
        [problem] = problems_of(f"""{LEAST}
            [store]
            {place}
            [stores.old]
            metadata = "sqlite:old.db"
            bodies = "file:old"
            {place}
            """)
        self.assertIn("holds the mail of [store] already", problem)
