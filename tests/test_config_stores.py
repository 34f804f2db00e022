"""Several stores in one configuration: what each is, and what is wrong between them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.config import Config, parse
from mailgate.config.stores import collide, none_optional, only, sections
from mailgate.errors import ConfigurationError

FOLDER = Path("/var/lib/mailgate")
LEAST = """
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
"""
OLD = """
[stores.old]
metadata = "sqlite:old.db"
bodies = "file:old"
"""


def parsed(text: str) -> Config:
    return parse((LEAST + text).encode(), folder=FOLDER)


class StoresTests(SynchronousTestCase):
    def problems(self, text: str) -> list[str]:
        with self.assertRaises(ConfigurationError) as caught:
            parsed(text)
        return caught.exception.problems

    def test_a_merge(self) -> None:
        """Each store has its own settings."""
        config = parsed("""
            [store]
            merge = ["store", "old", "Punt-2.a"]
            deliver_to = "old"
            [stores."Punt-2.a"]
            metadata = "sqlite:/srv/2/mail.db"
            bodies = "file:/srv/2/bodies"
            lease_seconds = 30
            quota_octets = 1000
            optional = true
            """ + OLD)
        self.assertEqual(config.store.merge, ("store", "old", "Punt-2.a"))
        self.assertEqual(list(sections(config)), ["store", "Punt-2.a", "old"])
        one = only(config, "Punt-2.a")
        self.assertEqual(one.metadata_path, Path("/srv/2/mail.db"))
        self.assertEqual((one.store.lease_seconds, one.store.merge, dict(one.stores)), (30, None, {}))
        self.assertEqual(only(config, "store").metadata_path, FOLDER / "mail.db")
        self.assertTrue(collide(one, one))
        self.assertTrue(collide(one, config), "it is part of the merge")
        self.assertFalse(collide(one, only(config, "store")))
        self.assertTrue(config.stores["Punt-2.a"].optional)
        self.assertFalse(any(section.optional for section in none_optional(config).stores.values()))
        with self.assertRaisesRegex(ConfigurationError, r"there is no \[stores.new\]; there are: store, "):
            only(config, "new")

    def test_stores_beside_no_merge(self) -> None:
        """To copy from or to."""
        self.assertIsNone(parsed(OLD).store.merge)

    def test_a_merge_of_nothing(self) -> None:
        for text, problem in (
                ('merge = ["store", "new"]', "store.merge: there is no [stores.new]; there are: store, old"),
                ('merge = ["old", "old"]', "store.merge: a name stands in it twice"),
                ('merge = ["old"]', "store.merge: one store alone is no merge"),
                ("merge = []", "store.merge: the array is empty"),
                ('merge = "old"', 'store.merge: an array of names is expected, not "old"'),
                ('deliver_to = "old"', "store.deliver_to: has no meaning without `merge`"),
                ('merge = ["store", "old"]\ndeliver_to = "new"',
                 "store.deliver_to: is none of the merge: store, old"),
                ("optional = true", "store.optional: it has the accounts: without it nobody can log in")):
            self.assertEqual(self.problems(f"[store]\n{text}\n{OLD}"), [problem])

    def test_a_merge_in_a_merge(self) -> None:
        """And other settings that are for all of them."""
        found = self.problems('[store]\nmerge = ["store", "old"]\n' + OLD + """
            merge = ["store", "old"]
            deliver_to = "old"
            retention_days = 30
            housekeeping_seconds = 60
            """)
        self.assertEqual(sorted(found), [
            "stores.old.deliver_to: is a setting of [store], for all of its merge",
            "stores.old.housekeeping_seconds: is a setting of [store], for all of its merge",
            "stores.old.merge: a merge in a merge: only [store] has one",
            "stores.old.retention_days: is a setting of [store], for all of its merge"])

    def test_all_optional(self) -> None:
        text = "".join(OLD.replace("old", name) + "optional = true\n" for name in "ab")
        self.assertEqual(self.problems('[store]\nmerge = ["a", "b"]\n' + text), [
            "store.merge: all of them are optional: an outage would look like an empty maildrop"])

    def test_configurations_with_a_place_in_common(self) -> None:
        """Other metadata over the same mail, or bodies: what is copied would come back to where it was."""
        texts = [f"""
            [store]
            metadata = "sqlite:{name}.db"
            bodies = "file:{bodies}"
            maildrops = "maildir:{mail}/{{name}}"
            """ for name, bodies, mail in (("a", "a", "mail"), ("b", "b", "mail"), ("c", "a", "/m"))]
        first, same_mail, same_bodies = map(parsed, texts)
        self.assertTrue(collide(first, same_mail))
        self.assertTrue(collide(first, same_bodies))
        self.assertFalse(collide(same_mail, same_bodies))
        elsewhere = parse((LEAST + texts[1]).encode(), folder=Path("/srv"))
        self.assertFalse(collide(first, elsewhere), "what is written the same is relative to a folder")

    def test_two_in_one_place(self) -> None:
        """However it is written, also where it is the default."""
        for text, problems in (
                ('[stores.old]\nbodies = "file:old"\n',
                 ["stores.old.metadata: is the database of [store] already"]),
                ('[stores.old]\nmetadata = "sqlite:old.db"\n',
                 ["stores.old.bodies: holds the bodies of [store] already"]),
                (OLD.replace("old.db", "./x/../mail.db").replace("file:old", f"file:{FOLDER}/bodies"),
                 ["stores.old.metadata: is the database of [store] already",
                  "stores.old.bodies: holds the bodies of [store] already"]),
                (OLD + '[stores.new]\nmetadata = "sqlite:new.db"\nbodies = "file:old"\n',
                 ["stores.new.bodies: holds the bodies of [stores.old] already"])):
            self.assertEqual(self.problems(text), problems)

    def test_names(self) -> None:
        for name, problem in (("store", "stores.store: is the name of [store] itself"),
                              ("merge", "stores.merge: is the name that commands have for the whole merge")):
            self.assertEqual(self.problems(OLD.replace("old]", name + "]")), [problem])
        found = self.problems(OLD.replace("stores.old", 'stores."a b"'))
        self.assertEqual(found, ['stores."a b": "a b" is not a name of letters, digits and . _ -'])
        long = "x" * 33
        found = self.problems(f'[store]\nmerge = ["store", "{long}"]\n' + OLD.replace("old]", long + "]"))
        self.assertEqual(found, [f"store.merge: {long}: of a store that is merged the name has at most"
                                 " 32 characters"])

    def test_every_problem_with_its_path(self) -> None:
        new = OLD.replace("old", "new").replace('"sqlite:new.db"', "5")
        found = self.problems(f"{OLD}lease_seconds = 0\ncolour = 5\n{new}")
        self.assertEqual([problem.partition(": ")[0] for problem in found],
                         ["stores.old.lease_seconds", "stores.old.colour", "stores.new.metadata"])
