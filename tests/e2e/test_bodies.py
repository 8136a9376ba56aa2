"""Tests which bodies are recorded, which are refused and kept, and when two bodies are the same event."""

import concurrent.futures
import json

import pytest

import daemon
from daemon import APP, COMMAND, event


# Recorded

@pytest.mark.parametrize("written, recorded", [
    (b'"1670574414123"', 1670574414123), (b"0", 0), (b"null", None), (b"9007199254740991", 2**53 - 1),
])
def test_records_event_time(shared, written, recorded):
    group_id = f"time {written.decode()}".replace('"', "'")
    body = event(GroupId=group_id, EventTime=7).replace(b'"EventTime":7', b'"EventTime":' + written)
    assert shared.post(body).status == 200
    (row,) = shared.groups(group_id)
    assert row["event_time_ms"] == recorded
    assert row["body"] == (b"" if recorded is not None else body)


@pytest.mark.parametrize("name, members, count", [
    ("absent", None, None), ("null", b"null", None), ("empty", b"[]", 0), ("one", b'[{"Member_Account":"a"}]', 1),
    ("more than the account", b'[{"Member_Account":"a","Role":"Owner","x":[{}]},{"y":1,"Member_Account":"b"}]', 2),
    ("the same twice", b'[{"Member_Account":"a"},{"Member_Account":"a"}]', 2),
])
def test_records_the_member_list(shared, name, members, count):
    group_id = f"members {name}"
    body = event(GroupId=group_id, MemberList=None)
    if members is not None:
        body = body[:-1] + b',"MemberList":' + members + b"}"
    assert shared.post(body).status == 200
    (row,) = shared.groups(group_id)
    assert row["member_count"] == count
    assert shared.members(group_id) == [entry["Member_Account"] for entry in json.loads(members or b"[]") or []]


def test_records_ten_thousand_members(shared):
    accounts = [f"member-{i:025}" for i in range(10_000)]
    body = event(GroupId="ten thousand", MemberList=[{"Member_Account": account} for account in accounts])
    assert len(body) > 500_000
    assert shared.post(body).status == 200
    (row,) = shared.groups("ten thousand")
    assert row["member_count"] == 10_000
    assert shared.members("ten thousand") == accounts


def test_records_ten_thousand_members_with_every_character_escaped(shared):
    accounts = [f"member-{i:025}" for i in range(10_000)]
    escaped = ["".join(f"\\u{ord(character):04x}" for character in account) for account in accounts]
    members = ",".join('{"Member_Account":"%s"}' % account for account in escaped)
    body = event(GroupId="escaped", MemberList=[]).replace(b'"MemberList":[]', b'"MemberList":[%s]' % members.encode())
    assert len(body) > 2_000_000
    assert shared.post(body).status == 200
    assert shared.members("escaped") == accounts


def test_records_empty_text_for_absent_fields(shared):
    body = json.dumps({"CallbackCommand": COMMAND, "GroupId": "bare"}).encode()
    assert shared.post(body).status == 200
    (row,) = shared.groups("bare")
    for name in ("type", "owner_account", "operator_account", "name"):
        assert row[name] == ""
    for name in ("Owner_Account", "Name", "Type"):
        assert shared.post(event(GroupId=f"no {name}", **{name: None})).status == 200
        (row,) = shared.groups(f"no {name}")
        assert row[name.lower()] == ""


IDS = ["it's", 'say "hi"', "../../etc/passwd", "%00", "a%00b", "a;DROP TABLE destroyed_group", "a\\b", "a b ", "/",
       "@TGS#_@TGS#x", "\U0001f600\U00020000", "e\u0301", "\u202e", "a" * 300, "社区" * 48, "-1", "1e5", "NULL"]


@pytest.mark.parametrize("identifier", IDS)
def test_keeps_ids_unchanged(shared, identifier):
    body = event(GroupId=identifier, Owner_Account=identifier, Name=identifier,
                 MemberList=[{"Member_Account": identifier}])
    assert shared.post(body).status == 200
    (row,) = shared.groups(identifier)
    assert row["group_id"] == row["owner_account"] == row["name"] == identifier
    assert shared.members(identifier) == [identifier]


def test_replaces_a_truncated_character_and_keeps_the_body(shared):
    body = event(GroupId="cut", Name="X").replace(b'"X"', b'"' + "社区".encode()[:-1] + b'"')
    assert shared.post(body).status == 200
    (row,) = shared.groups("cut")
    assert row["name"].startswith("社\ufffd") and set(row["name"][1:]) == {"\ufffd"}
    assert row["body"] == body


@pytest.mark.parametrize("written, name", [
    (rb'"Name":"a\u0000b"', "a\ufffdb"), (rb'"Name":"\u0000"', "\ufffd"), (rb'"Name":"n","New":"\u0000"', "n"),
    (rb'"Name":"n","New":[{"a\u0000":"\u0000b"}]', "n"), (rb'"Name":"n","GroupId\u0000":"other"', "n"),
])
def test_replaces_an_escaped_nul_and_keeps_the_body(shared, written, name):
    group_id = f"NUL {written.decode()}"
    body = event(GroupId=group_id, Name="X").replace(b'"Name":"X"', written)
    assert shared.post(body).status == shared.post(body).status == 200
    (row,) = shared.groups(group_id)
    assert (row["name"], row["body"]) == (name, body)


def test_accepts_unknown_fields_and_white_space(shared):
    fields = json.loads(event(GroupId="grown")) | {"New": {"a": [1, 2.5e3, None, True, {}]}, "groupid": "other"}
    assert shared.post(b"\r\n\t " + json.dumps(fields, indent=4).encode() + b" \n").status == 200
    assert len(shared.groups("grown")) == 1


def test_keeps_each_body_if_configured(make_daemon):
    one = make_daemon({"store": {"keep_body": "yes"}}).start()
    assert one.post(event()).status == 200
    (row,) = one.groups()
    assert row["body"] == event()


# Bodies that are refused with 400 and kept

def with_field(name, value):
    """Returns a body with every field. The named field has the given bytes as its value."""
    fields = {"CallbackCommand": COMMAND, "GroupId": "g", "EventTime": 1, "Type": "t", "Owner_Account": "o",
              "Name": "n", "Operator_Account": "p", "MemberList": []}
    return b"{" + b",".join(b'"%s":%s' % (key.encode(), value if key == name else json.dumps(old).encode())
                            for key, old in fields.items()) + b"}"


# Each case has the body, the ErrorCode (None allows any ErrorCode for a body), and a text that ErrorInfo and the
# recorded reason must contain. The unit tests have more cases.
REFUSED_BODIES = {
    "empty": (b"", 120201, ""),
    "cut": (event()[:-1], 120201, ""),
    "two bodies": (event() + event(), 120201, ""),
    "NUL byte after it": (event() + b"\0", None, ""),
    "control character": (event(Name="X").replace(b"X", b"\x01"), 120201, ""),
    "number with a leading zero": (event()[:-1] + b',"New":-01}', 120201, "number at byte "),
    "number that ends with a dot": (event()[:-1] + b',"New":[2.]}', 120201, "number at byte "),
    "list": (b"[" + event() + b"]", None, ""),
    "too deep": (event()[:-1] + b',"New":' + b"[" * 1000 + b"]" * 1000 + b"}", 120206, ""),
    "too many nodes": (event()[:-1] + b',"New":[' + b"0," * 500_000 + b"0]}", 120206, ""),
    "no command": (event(CallbackCommand=None), None, "CallbackCommand"),
    "no group": (event(GroupId=None), 120202, "GroupId"),
    "group twice": (event()[:-1] + b',"GroupId":"other"}', 120204, "GroupId"),
    "group twice, escaped": (event()[:-1] + rb',"\u0047roupId":"other"}', 120204, "GroupId"),
    "NUL in the group": (with_field("GroupId", rb'"a\u0000b"'), 120205, "GroupId"),
    "NUL in the owner": (with_field("Owner_Account", rb'"a\u0000"'), 120205, "Owner_Account"),
    "NUL in the operator": (with_field("Operator_Account", rb'"\u0000"'), 120205, "Operator_Account"),
    "NUL in a member": (with_field("MemberList", rb'[{"Member_Account":"\u0000"}]'), 120205, "[0].Member_Account"),
    "NUL byte in the name": (with_field("Name", b'"a\0"'), 120205, "byte "),
    "member without account": (with_field("MemberList", b"[{}]"), 120202, "Member_Account"),
    "account twice": (with_field("MemberList", b'[{"Member_Account":"a","Member_Account":"b"}]'), 120204,
                      "Member_Account"),
    "account that is a number": (with_field("MemberList", b'[{"Member_Account":1}]'), 120203, "Member"),
} | {
    f"{name} = {value}": (with_field(name, value.encode()), 120203, name)
    for name, value in (("GroupId", "1"), ("Type", "[]"), ("Owner_Account", "7"), ("Operator_Account", "false"),
                        ("Name", "{}"), ("EventTime", "-1"), ("EventTime", '"abc"'), ("EventTime", "1e999"),
                        ("EventTime", "9007199254740992"), ("MemberList", "{}"), ("MemberList", '["a"]'))
}


@pytest.mark.parametrize("case", REFUSED_BODIES)
def test_refuses_and_keeps_body(refusing, case):
    body, code, named = REFUSED_BODIES[case]
    answer = refusing.post(body)
    assert answer.status == 400 and 120200 < answer.code < 120300, answer
    assert code is None or answer.code == code, answer
    assert named in answer.json["ErrorInfo"], answer
    row = refusing.rejected()[-1]
    assert (row["body"], row["sdk_appid"], row["callback_command"]) == (body, APP, COMMAND)
    assert named in row["reason"]


# The same event

def test_records_a_repeat_once(one):
    for _ in range(3):
        assert one.post(event()).status == 200
    assert len(one.groups()) == 1
    assert one.members("@TGS#1") == ["leckie"]
    # A repeat has the same content, but may be formatted differently.
    fields = json.loads(event(EventTime="1670574414123", Owner_Account="leckie"))
    assert one.post(json.dumps(fields, indent=1, sort_keys=True).encode()).status == 200
    assert len(one.groups()) == 1 and one.rejected() == []


def test_recognizes_a_repeat_after_a_restart(one):
    without_time = event(GroupId="timeless", EventTime=None)
    assert one.post(event()).status == one.post(without_time).status == 200
    one.stop()
    one.start()
    assert one.post(event()).status == one.post(without_time).status == 200
    assert one.group_ids() == ["@TGS#1", "timeless"] and one.rejected() == []


def test_records_simultaneous_repeats_once(make_daemon):
    one = make_daemon({"listen": {"threads": 2}}).start()
    context = one.tls_context()
    for body in (event(), event(EventTime=None)):
        connections = [one.connect(context) for _ in range(50)]
        for connection in connections:
            connection.send(daemon.request(body)[:-1])
        for connection in connections:
            connection.send(body[-1:])
        assert [connection.read_answer().status for connection in connections] == [200] * 50
        for connection in connections:
            connection.tls.close()
    assert [row["event_time_ms"] for row in one.groups()] == [1670574414123, None]
    assert one.value("SELECT count(*) FROM destroyed_group_member") == 2
    assert one.rejected() == []


def test_sets_the_loser_of_two_simultaneous_contents_aside(one):
    bodies = [event(Name=f"name-{i % 2}") for i in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert [answer.status for answer in pool.map(one.post, bodies)] == [200] * 20
    (row,) = one.groups()
    other = event(Name="name-1" if row["name"] == "name-0" else "name-0")
    assert {kept["body"] for kept in one.rejected()} == {other}


@pytest.mark.parametrize("difference", [
    dict(Name="other"), dict(Type="Private"), dict(Owner_Account="other"), dict(Operator_Account="other"),
    dict(MemberList=[]), dict(MemberList=None), dict(MemberList=[{"Member_Account": "peter"}]),
    dict(MemberList=[{"Member_Account": "leckie"}, {"Member_Account": "peter"}]),
])
def test_sets_other_content_aside(shared, difference):
    group_id = f"conflict {sorted(difference.items())}".replace("'", "")
    first, second = event(GroupId=group_id), event(GroupId=group_id, **difference)
    kept_before = len(shared.rejected())
    assert shared.post(first).status == shared.post(second).status == shared.post(first).status == 200
    (row,) = shared.groups(group_id)
    assert (row["name"], row["type"], row["owner_account"], row["operator_account"], row["member_count"]) == (
        "group", "Public", "leckie", "", 1)
    assert shared.members(group_id) == ["leckie"]
    (kept,) = shared.rejected()[kept_before:]
    assert (kept["body"], kept["sdk_appid"], kept["callback_command"]) == (second, APP, COMMAND)
    assert kept["reason"]


@pytest.mark.parametrize("difference", [dict(GroupId="other id"), dict(EventTime=1670574414124)])
def test_records_another_identity_as_another_event(one, difference):
    assert one.post(event()).status == one.post(event(**difference)).status == 200
    assert len(one.groups()) == 2 and one.rejected() == []


def test_identifies_an_event_without_time_by_its_body(one):
    first = event(EventTime=None)
    for body in (first, first, event(EventTime=None, Name="other"), first + b" "):
        assert one.post(body).status == 200
    assert [(row["name"], row["body"]) for row in one.groups()] == [
        ("group", first), ("other", event(EventTime=None, Name="other")), ("group", first + b" ")]
    assert one.rejected() == []


def test_ids_grow_in_the_order_of_recording(one):
    one.record("9", "8", "7", "6", "5")
    one.stop()
    one.start()
    assert one.post(event(GroupId="a")).status == 200
    rows = one.groups()
    assert [row["group_id"] for row in rows] == ["9", "8", "7", "6", "5", "a"]
    assert all(a["id"] < b["id"] for a, b in zip(rows, rows[1:]))
