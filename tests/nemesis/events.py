"""Draws what honest clients send: events in all documented forms, repeats, conflicts, checks of the URL, and other
commands. Each function knows the row that the receiver must record."""

import dataclasses
import json
import pathlib

from operation import CHUNKED, COMMAND, OK, Form, Operation, Query, digest, request_time, sign

SAMPLES = pathlib.Path(__file__).resolve().parent.parent / "samples"
DOCUMENTED = (SAMPLES / "as-documented.txt").read_text()
TOPIC = json.loads((SAMPLES / "topic-destroyed.json").read_text())

FIRST_TIME_MS = 1_700_000_000_000
SHARED_GROUPS = 24  # groups of each app that get many events
LARGE = 10_000  # members
TYPES = ("Public", "Private", "Work", "ChatRoom", "Meeting", "AVChatRoom", "BChatRoom", "Community", "custom type", "")
PLATFORMS = ("RESTAPI", "Web", "Android", "iOS", "IOS", "Windows", "Mac", "iPad", "Unknown", "Unkown", "a+b c/%")
NAMES = ("group", "MyFirstGroup", "社区", "Ünïcödé", "😀👩‍👩‍👧", "שלום", "'; DROP TABLE x; --", "a\"b\\c/d", "tab\there",
         "two\nlines", "", "x" * 100, "\u2028\ufeff", "\ufffd")
ADDRESSES = ("203.0.113.7", "198.51.100.2", "2001:db8::7", "")
OTHER_COMMANDS = ("Group.CallbackAfterTopicDestroyed", "Group.CallbackAfterNewMemberJoin", "C2C.CallbackAfterSendMsg",
                  "Group.CallbackBeforeSendMsg", "Live.CallbackAfterDestroyRoom", "x")
NAME_SPELLINGS = ("SdkAppid", "SdkAppId", "SDKAppID", "sdkappid")


def query(draw, command=COMMAND):
    """Returns a signed query in one of the forms that the service is known to send."""
    parameters = [(draw.dice.choice(NAME_SPELLINGS) if draw.maybe(0.1) else "SdkAppid", str(draw.app)),
                  ("CallbackCommand", command), ("Sign", sign), ("RequestTime", request_time)]
    if draw.maybe(0.9):
        parameters.append(("contenttype", "json"))
    if draw.maybe(0.9):
        parameters.append(("ClientIP", draw.dice.choice(ADDRESSES)))
        parameters.append(("OptPlatform", draw.dice.choice(PLATFORMS)))
    elif draw.maybe(0.5):
        parameters += [("ClientIP", None), ("OptPlatform", None)]
    if draw.maybe(0.1):
        parameters.append(("tenant", "a"))
    if draw.maybe(0.5):
        draw.dice.shuffle(parameters)
    return Query(tuple(parameters))


def group_id(draw):
    """Returns one of the groups that get many events, or a group of its own."""
    if draw.maybe(0.6):
        return f"@TGS#shared-{draw.dice.randrange(SHARED_GROUPS)}"
    return draw.dice.choice((f"@TGS#{draw.op:X}", f"own '{draw.op}' / ..%;&\"", f"{draw.op}"))


def members(draw, most=50):
    count = draw.dice.choice((0, 1, 2, 3, draw.dice.randrange(most + 1)))
    return [f"{draw.dice.choice(('user', '用户', 'u-0123456789-0123456789-01234567'))}{draw.op}-{i}"
            for i in range(count)]


def fields(draw, **given):
    """Returns the fields of a body without CallbackCommand. A given field replaces the drawn one; optional fields may
    be missing. A field that is given as None is left out."""
    drawn = {"EventTime": FIRST_TIME_MS + draw.op * 1000 + draw.dice.randrange(1000), "GroupId": group_id(draw)}
    optional = {"Type": draw.dice.choice(TYPES), "Owner_Account": f"owner-{draw.dice.randrange(100)}",
                "Operator_Account": draw.dice.choice(("administrator", "管理员", "")),
                "Name": draw.dice.choice(NAMES), "MemberList": members(draw)}
    drawn |= {name: value for name, value in optional.items() if draw.maybe(0.9)}
    return {name: value for name, value in (drawn | given).items() if value is not None}


def encode(draw, values):
    """Returns the fields as a body in one of the forms that JSON allows."""
    values = {"CallbackCommand": COMMAND} | values
    if "MemberList" in values:
        values["MemberList"] = [{"Member_Account": member} for member in values["MemberList"]]
    elif draw.maybe(0.2):
        values["MemberList"] = None
    if "EventTime" in values and draw.maybe(0.3):
        values["EventTime"] = str(values["EventTime"])
    if draw.maybe(0.1):
        values["New_Field"] = {"a": [1, None, "GroupId"]}
    return json.dumps(values, ensure_ascii=draw.maybe(0.2), sort_keys=draw.maybe(0.7),
                      indent=1 if draw.maybe(0.1) else None,
                      separators=(",", ":") if draw.maybe(0.9) else (", ", ": ")).encode()


def row(draw, values, sent):
    """Returns the row that the receiver must record for these fields and this query, without remote_address."""
    listed = values.get("MemberList")
    return {"sdk_appid": draw.app, "group_id": values["GroupId"], "event_time_ms": values.get("EventTime"),
            "type": values.get("Type", ""), "owner_account": values.get("Owner_Account", ""),
            "operator_account": values.get("Operator_Account", ""), "name": values.get("Name", ""),
            "member_count": None if listed is None else len(listed),
            "members": digest("\n".join(listed or []).encode()),
            "opt_platform": sent.get("OptPlatform"), "client_ip": sent.get("ClientIP")}


def recorded(draw, values, body=None, **others):
    """Returns the operation that sends these fields and has them recorded."""
    sent = query(draw)
    lines = tuple(line for line, probability in (("Content-Type: application/json", 0.8), ("Connection: close", 0.05),
                                                 ("User-Agent: tim", 0.3)) if draw.maybe(probability))
    form = CHUNKED if draw.maybe(0.03) else Form()
    others = {"form": form.adding_lines(*lines), "elsewhere": draw.maybe(0.02),
              "patience_s": 2 if draw.maybe(0.25) else 20} | others
    return Operation(draw.op, draw.kind, draw.app, sent, encode(draw, values) if body is None else body,
                     honest=draw.honest, expect=row(draw, values, sent),
                     identity=(draw.app, values["GroupId"], values.get("EventTime")), **others)


# The functions of the table

def event(draw):
    return recorded(draw, fields(draw))


def documented_sample(draw):
    """The sample of the reference page, comments included, with a group and a time of its own."""
    values = fields(draw, GroupId=f"@TGS#sample-{draw.op}", Type="Public", Owner_Account="leckie", Name="MyFirstGroup",
                    MemberList=["leckie", "peter", "bob"])
    values.pop("Operator_Account", None)
    text = DOCUMENTED.replace("@TGS#2J4SZEAEL", values["GroupId"]).replace("1670574414123", str(values["EventTime"]))
    return recorded(draw, values, text.encode())


def torn_text(draw):
    """The name ends within a character, or contains NUL. The receiver records U+FFFD in place of each fault."""
    sent, name = draw.dice.choice(((b"cut \xe7\xa4", "cut \ufffd"), (b"a\\u0000b", "a\ufffdb"), (b"\xff", "\ufffd")))
    values = fields(draw, Name="TORN")
    return recorded(draw, values | {"Name": name}, encode(draw, values).replace(b"TORN", sent))


def community(draw):
    """A community has no list of members."""
    values = fields(draw, GroupId=f"@TGS#_@TGS#c{draw.dice.randrange(SHARED_GROUPS)}", Type="Community")
    return recorded(draw, {name: value for name, value in values.items() if name != "MemberList"})


def no_time(draw):
    """Without a time, only the body identifies the event, so group and body are unique and are sent once."""
    return recorded(draw, fields(draw, EventTime=None, GroupId=f"no-time-{draw.op}"))


def large(draw):
    return recorded(draw, fields(draw, MemberList=[f"u{draw.op:08}-0123456789-{i:012}" for i in range(LARGE)]))


def repeat(draw):
    """An earlier event once more, from another client. The earlier one may be acknowledged, have an unknown outcome, or
    be in flight."""
    if not draw.earlier:
        return event(dataclasses.replace(draw, kind="event"))
    before = draw.earlier[-1 - draw.dice.randrange(min(6, len(draw.earlier)))] if draw.maybe(0.4) else (
        draw.dice.choice(draw.earlier))
    sent = query(dataclasses.replace(draw, app=before.app))
    expect = before.expect | {"opt_platform": sent.get("OptPlatform"), "client_ip": sent.get("ClientIP")}
    return dataclasses.replace(before, op=draw.op, kind=draw.kind, query=sent, expect=expect, form=Form(),
                               elsewhere=True)


def conflict(draw):
    """The identity of an earlier event with another name or other members. The receiver records what comes first."""
    if not draw.earlier:
        return event(dataclasses.replace(draw, kind="event"))
    before = draw.dice.choice(list(draw.earlier)[-200:])
    draw = dataclasses.replace(draw, app=before.app)
    _, group, time_ms = before.identity
    change = {"Name": f"conflict {draw.op}"} if draw.maybe(0.5) else {"MemberList": [f"conflict-{draw.op}"]}
    return recorded(draw, fields(draw, GroupId=group, EventTime=time_ms, **change), elsewhere=True)


def url_check(draw):
    """What the console may send to check the URL: a signed request without SdkAppid or without CallbackCommand."""
    left_out = draw.dice.choice((("SdkAppid",), ("CallbackCommand",), ("SdkAppid", "CallbackCommand")))
    sent = Query((("SdkAppid", str(draw.app)), ("CallbackCommand", COMMAND), ("Sign", sign),
                  ("RequestTime", request_time))).without(*left_out)
    body = draw.dice.choice((b"", b"\r\n", b"{}", b'{"a":1}', b"[]"))
    return Operation(draw.op, draw.kind, draw.app, sent, body, honest=draw.honest)


def other_command(draw):
    """Another callback of the service. It shares the URL and, if topics were deleted, the form of our callback."""
    command = draw.dice.choice(OTHER_COMMANDS)
    values = TOPIC if command == TOPIC["CallbackCommand"] else {"CallbackCommand": command, "GroupId": "@TGS#other"}
    answer = OK if draw.other_commands == "acknowledge" else (400, 120133)
    return Operation(draw.op, draw.kind, draw.app, query(draw, command), json.dumps(values).encode(), (answer,),
                     honest=draw.honest)
