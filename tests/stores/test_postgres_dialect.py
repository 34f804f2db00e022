"""SQLite's words and PostgreSQL's: the table, and what is between quotes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailgate.stores.postgres_dialect import NOW, STEP, translate
from mailgate.stores.sql.credentials import APP_PASSWORDS
from mailgate.stores.sql.leases import NOW_MS


class TranslationTests(SynchronousTestCase):
    """Each replacement, by what our statements say."""

    def test_table(self) -> None:
        """One statement a row."""
        array = "jsonb_array_elements_text(CAST(%s AS JSONB)) AS listed (value)"
        for given, expected in (
                ("SELECT 1", "SELECT 1"),
                ("a = ? AND b = :name", "a = %s AND b = %(name)s"),
                (f"WHERE expires_ms > {NOW_MS}", f"WHERE expires_ms > {NOW}"),
                ("serial IN (SELECT value FROM json_each(?))",
                 f"serial IN (SELECT CAST(value AS BIGINT) FROM {array})"),
                ("body_id IN (SELECT value FROM json_each(:ids))",
                 f"body_id IN (SELECT CAST(value AS BIGINT) FROM {array.replace('%s', '%(ids)s')})"),
                ("key IN (SELECT value FROM json_each(?))", f"key IN (SELECT value FROM {array})"),
                ("SELECT value FROM json_each(?) WHERE", f"SELECT value FROM {array} WHERE"),
                ("change = change + 1", f"change = change + 1 * {STEP}"),
                ("change = change + ?", f"change = change + %s * {STEP}"),
                ("SET last = last + 1", f"SET last = last + {STEP}"),
                ("group_concat(octets, ',')", "string_agg(CAST(octets AS TEXT), ',' ORDER BY serial)"),
                ("FROM message INDEXED BY message_user WHERE", "FROM message WHERE"),
                ("ifnull(a, 0)", "coalesce(a, 0)"),
                ("instr(rest, ',')", "strpos(rest, ',')"),
                ("a NOT LIKE ?", "a NOT ILIKE %s"),
                ("a IS NOT :b", "a IS DISTINCT FROM %(b)s"),
                ("a IS NOT NULL AND b IS NULL", "a IS NOT NULL AND b IS NULL"),
                (":account IS NULL", "CAST(%(account)s AS TEXT) IS NULL"),
                ("PRAGMA quick_check(20)", "SELECT 'ok'")):
            self.assertEqual(translate(given).decode(), expected)

    def test_what_is_quoted_is_left_alone(self) -> None:
        """Marks of values inside a literal are none; a per cent sign is psycopg's escape."""
        self.assertEqual(translate("LIKE '%\"' || ? || 'a:b?''%'"), b"ILIKE '%%\"' || %s || 'a:b?''%%'")

    def test_app_passwords(self) -> None:
        """They come as the same JSON."""
        self.assertIn(b"coalesce(json_agg(json_build_array(label, verifier,", translate(APP_PASSWORDS))

    def test_a_statement_is_translated_once(self) -> None:
        """The second time it is remembered."""
        before = translate.cache_info().hits
        for _ in range(2):
            translate("SELECT 'told twice'")
        self.assertGreater(translate.cache_info().hits, before)
