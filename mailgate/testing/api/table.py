"""Every operation of the API: the one table, from which requests are judged and the document is written."""

from __future__ import annotations

from mailgate.testing.api import mail, people, serving, sessions, trouble
from mailgate.testing.api.operations import (
    JSON,
    MESSAGE,
    PLAIN,
    SECRETS,
    TOML,
    Operation,
    Query,
    json,
    page,
    wait,
)
from mailgate.testing.api.schemas import ARRIVED, PATH, TABLE, TEXT, UNIQUE_ID, WHOLE, ref

NOTHING = {204: None}
OCTETS = {"type": "string", "format": "binary"}
ENVELOPE = {
    "sender": Query(PATH, None, "Of the envelope; with a body of message/rfc822."),
    "recipient": Query(PATH, None, "Of the envelope; decides whose it is at an SDPS host."),
    "unique_id": Query(UNIQUE_ID, None, "That the message is to have."),
    "arrived": Query(ARRIVED, None, "When it arrived, seconds since 1970.")}

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/openapi.json", "getDocument", "This document.", serving.get_document,
              {200: json(TABLE)}),
    Operation("GET", "/server", "getServer", "Where the harness listens, and what it is.",
              serving.get_server, {200: json(ref("Server"))}),
    Operation("POST", "/reset", "reset", "Be as when it was started: end all connections, forget accounts, "
              "mail, faults and sessions, set the clock back; do again what options of the command line ask "
              "for. Ports and certificates stay.", serving.post_reset, NOTHING),
    Operation("GET", "/accounts", "getAccounts", "All accounts.", people.get_accounts,
              {200: json(ref("Accounts"))}),
    Operation("POST", "/accounts", "addAccount", "Add an account, or an SDPS host. Without addresses it "
              "receives NAME@hostname, a host all of NAME.hostname.", people.post_account,
              {201: json(ref("Account"))}, body=json(ref("NewAccount")), refusals=(409,)),
    Operation("DELETE", "/accounts/{name}", "removeAccount", "Remove an account and its maildrop.",
              people.delete_account, NOTHING, refusals=(404, 409)),
    Operation("GET", "/maildrops", "getMaildrops", "All maildrops that hold or held something.",
              mail.get_maildrops, {200: json(ref("Maildrops"))}),
    Operation("GET", "/maildrops/{name}/messages", "getMessages", "What a maildrop holds now.",
              mail.get_messages, {200: json(ref("Messages"))},
              page(WHOLE, "Only those with a higher number.", 1000, 10_000), refusals=(404,)),
    Operation("POST", "/maildrops/{name}/messages", "addMessage", "Put a message into a maildrop. It is "
              "fetched as it was put in, its line ends made CRLF.", mail.post_message,
              {201: json(ref("Message"))}, ENVELOPE, {JSON: ref("NewMessage"), MESSAGE: OCTETS},
              refusals=(404, 409)),
    Operation("DELETE", "/maildrops/{name}/messages", "clearMaildrop",
              "Remove all messages, also from under a session.", mail.delete_messages, NOTHING,
              refusals=(404,)),
    Operation("POST", "/maildrops/{name}/samples", "addSamples", "Put samples into a maildrop.",
              mail.post_samples, {201: json(ref("Messages"))}, body=json(ref("NewSamples")),
              refusals=(404,)),
    Operation("GET", "/maildrops/{name}/messages/{unique_id}", "getMessage", "One message with its content; "
              "with `Accept: message/rfc822` only that.", mail.get_message,
              {200: {JSON: ref("Message"), MESSAGE: OCTETS}}, refusals=(404,)),
    Operation("DELETE", "/maildrops/{name}/messages/{unique_id}", "removeMessage",
              "Remove a message, also from under a session.", mail.delete_message, NOTHING, refusals=(404,)),
    Operation("GET", "/samples", "getSamples", "Messages that clients stumble over, by name.",
              mail.get_samples, {200: json(ref("Samples"))}),
    Operation("GET", "/kinds", "getKinds", "Every kind of fault.", trouble.get_kinds,
              {200: json(ref("Kinds"))}),
    Operation("GET", "/faults", "getFaults", "The faults that are switched on.", trouble.get_faults,
              {200: json(ref("Faults"))}),
    Operation("POST", "/faults", "addFault", "Switch a fault on.", trouble.post_fault,
              {201: json(ref("Fault"))}, body=json(ref("NewFault"))),
    Operation("DELETE", "/faults", "clearFaults", "Switch all faults off, and with them the scenario.",
              trouble.delete_faults, NOTHING),
    Operation("GET", "/faults/{id}", "getFault", "One fault that is switched on.", trouble.get_fault,
              {200: json(ref("Fault"))}, refusals=(404,)),
    Operation("DELETE", "/faults/{id}", "removeFault", "Switch a fault off.", trouble.delete_fault, NOTHING,
              refusals=(404,)),
    Operation("GET", "/scenarios", "getScenarios", "The library of scenarios.", trouble.get_scenarios,
              {200: json(ref("Scenarios"))}),
    Operation("GET", "/scenarios/{name}", "getLibraryScenario", "One scenario of the library.",
              trouble.get_library_scenario, {200: json(ref("Scenario"))}, refusals=(404,)),
    Operation("GET", "/scenario", "getScenario", "The scenario that is on, and all faults that are.",
              trouble.get_scenario, {200: json(ref("ActiveScenario"))}),
    Operation("PUT", "/scenario", "putScenario", "Switch a scenario on, in place of all faults: one of the "
              "library by its name, or one that is written here.", trouble.put_scenario,
              {200: json(ref("ActiveScenario"))}, body={JSON: ref("NewScenario"), TOML: TEXT}),
    Operation("DELETE", "/scenario", "clearScenario", "Switch the scenario off, and all other faults.",
              trouble.delete_faults, NOTHING),
    Operation("GET", "/sessions", "getSessions", "What clients did: connections since the start or the last "
              "reset, without their events.", sessions.get_sessions, {200: json(ref("Sessions"))},
              {**page(WHOLE, "Only sessions with a higher number.", 100, 1000), **SECRETS,
               **wait(("idle",), "Answer when no connection is open any more."),
               "least": Query(WHOLE, 0, "With `wait`: and when so many have begun.")}),
    Operation("GET", "/sessions/{number}", "getSession", "One connection, by its number or as `latest`.",
              sessions.get_session, {200: json(ref("Session"))},
              {**SECRETS, **wait(("ended",), "Answer when it has begun and ended.")}, refusals=(404,)),
    Operation("GET", "/sessions/{number}/events", "getEvents", "Everything that happened on a connection.",
              sessions.get_events, {200: json(ref("Events"))},
              {**page(WHOLE, "From the event with this index on; `next` of the answer before.", 1000, 10_000),
               **SECRETS}, refusals=(404,)),
    Operation("GET", "/sessions/{number}/transcript", "getTranscript", "What was said, as text.",
              sessions.get_transcript, {200: {PLAIN: TEXT}}, SECRETS, refusals=(404,)),
    Operation("GET", "/deliveries", "getDeliveries", "Connections that brought mail, by LMTP or SMTP, "
              "without their events.", sessions.get_deliveries, {200: json(ref("Deliveries"))},
              {**page(WHOLE, "Only deliveries with a higher number.", 100, 1000), **SECRETS,
               **wait(("idle",), "Answer when no connection is open any more."),
               "least": Query(WHOLE, 0, "With `wait`: and when so many have begun.")}),
    Operation("GET", "/deliveries/{delivery}", "getDelivery", "One of them, by its number or as `latest`.",
              sessions.get_session, {200: json(ref("Session"))},
              {**SECRETS, **wait(("ended",), "Answer when it has begun and ended.")}, refusals=(404,)),
    Operation("GET", "/deliveries/{delivery}/events", "getDeliveryEvents", "Everything that happened on it.",
              sessions.get_events, {200: json(ref("Events"))},
              {**page(WHOLE, "From the event with this index on; `next` of the answer before.", 1000, 10_000),
               **SECRETS}, refusals=(404,)),
    Operation("GET", "/deliveries/{delivery}/transcript", "getDeliveryTranscript", "What was said, as text.",
              sessions.get_transcript, {200: {PLAIN: TEXT}}, SECRETS, refusals=(404,)),
    Operation("GET", "/clock", "getClock", "The time.", serving.get_clock, {200: json(ref("Clock"))}),
    Operation("PUT", "/clock", "putClock", "Hold the clock, or let it run from where it stands.",
              serving.put_clock, {200: json(ref("Clock"))}, body=json(ref("Held"))),
    Operation("POST", "/clock/advance", "advanceClock", "Move time on, held or not; what becomes due is done "
              "before this answers.", serving.post_advance, {200: json(ref("Clock"))},
              body=json(ref("Advance"))),
)
