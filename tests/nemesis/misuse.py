"""Draws what the receiver must not record: rejected queries, bodies that are not understood, hostile framing, and
clients that are slow or leave."""

import dataclasses
import json

import events
from operation import COMMAND, Form, Operation, Query, chunks, request_time, sign

PLAIN = Query((("CallbackCommand", COMMAND), ("ClientIP", "203.0.113.7"), ("OptPlatform", "Web"),
               ("RequestTime", request_time), ("SdkAppid", None), ("Sign", sign), ("contenttype", "json")))
GARBAGE_BYTES = 400


def refusal(draw, query, *allowed, body=None, form=Form(), **others):
    """Returns the operation of a request that must be refused: a body with an event that must not be recorded."""
    body = events.encode(draw, events.fields(draw, GroupId=f"refused-{draw.op}")) if body is None else body
    return Operation(draw.op, draw.kind, draw.app, query.having("SdkAppid", str(draw.app)), body, allowed, form=form,
                     **({"may_be_closed": True} | others))


def changed_query(status, code, change):
    return lambda draw: refusal(draw, change(PLAIN), (status, code))


def wrong_sign(token, seconds):
    return sign(token + "x", seconds)


def changed_form(status, code, **change):
    return lambda draw: refusal(draw, PLAIN, (status, code), form=Form(**change))


def unknown_app(draw):
    operation = refusal(draw, PLAIN, (403, 120103))
    return dataclasses.replace(operation, query=PLAIN.having("SdkAppid", "1400000999"))


def other_body(draw):
    body = json.dumps({"CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": f"refused-{draw.op}"})
    return refusal(draw, PLAIN, (400, 120134), body=body.encode())


def too_large(draw):
    """The receiver refuses because of Content-Length, so the body itself need not be sent."""
    lines = ("Host: localhost", f"Content-Length: {draw.body_limit + 1 + draw.dice.randrange(1000)}")
    return refusal(draw, PLAIN, (413, 120004), form=Form(lines=lines))


# The causes for which nothing is kept
REJECTED = {
    "sdk_appid_missing": changed_query(403, 120101, lambda query: query.without("SdkAppid", "Sign", "RequestTime")),
    "sdk_appid_missing_with_event": changed_query(403, 120101, lambda query: query.without("SdkAppid")),
    "sdk_appid_repeated": changed_query(403, 120102, lambda query: query.adding("sdkappid", "1")),
    "sdk_appid_unknown": unknown_app,
    "sign_missing": changed_query(403, 120111, lambda query: query.without("Sign")),
    "sign_repeated": changed_query(403, 120112, lambda query: query.adding("sign", sign)),
    "sign_malformed": changed_query(403, 120113, lambda query: query.having("Sign", "0" * 63)),
    "sign_wrong": changed_query(403, 120114, lambda query: query.having("Sign", wrong_sign)),
    "request_time_missing": changed_query(403, 120121, lambda query: query.without("RequestTime")),
    "request_time_repeated": changed_query(403, 120122, lambda query: query.adding("requesttime", request_time)),
    "request_time_malformed": changed_query(403, 120123, lambda query: query.having("RequestTime", "now")),
    "request_time_old": changed_query(403, 120124, lambda query: dataclasses.replace(query, shift_s=-3600)),
    "request_time_ahead": changed_query(403, 120124, lambda query: dataclasses.replace(query, shift_s=3600)),
    "command_missing": changed_query(400, 120131, lambda query: query.without("CallbackCommand")),
    "command_repeated": changed_query(400, 120132, lambda query: query.adding("callbackcommand", COMMAND)),
    "command_differs": other_body,
    "path_unknown": changed_form(404, 120002, path="/other"),
    "method": changed_form(405, 120003, method="GET", lines=("Host: localhost",), content=lambda body: b""),
    "body_too_large": too_large,
    "content_encoded": changed_form(415, 120005, lines=(*Form().lines, "Content-Encoding: gzip")),
}


def bad_body(code, template):
    """The receiver keeps the raw body. OP makes the body unique."""
    return lambda draw: refusal(draw, PLAIN, (400, code), body=template.replace("OP", str(draw.op)).encode())


EVENT = '{"CallbackCommand":"%s","EventTime":OP,"GroupId":%%s}' % COMMAND
BODIES = {
    "not_json": bad_body(120201, "GroupId=refused-OP"),
    "cut": bad_body(120201, EVENT % '"refused-OP"'[:-1]),
    "list": bad_body(120201, '["refused-OP"]'),
    "no_group": bad_body(120202, '{"CallbackCommand":"%s","EventTime":OP}' % COMMAND),
    "no_account": bad_body(120202, EVENT % '"refused-OP","MemberList":[{}]'),
    "wrong_type": bad_body(120203, EVENT % "OP"),
    "wrong_time": bad_body(120203, EVENT.replace(":OP", ':"OP ms"') % '"refused-OP"'),
    "repeated_field": bad_body(120204, EVENT % '"refused-OP","GroupId":"refused"'),
    "nul_in_id": bad_body(120205, EVENT % '"refused-OP\\u0000"'),
    "too_deep": bad_body(120206, EVENT % ('"refused-OP","a":' + "[" * 200 + "]" * 200)),
}


# Hostile framing: each request carries an event, and a signed callback follows it. Neither must be recorded. Some
# versions of libmicrohttpd answer such a request with a page of their own, which has no ErrorCode.
BAD_FRAMING = ((400, 120001), (400, None), (501, None), (505, None))


def smuggled(target):
    body = json.dumps({"CallbackCommand": COMMAND, "GroupId": "smuggled", "EventTime": 1}).encode()
    return Form().head(target, len(body)) + body


def hostile(*lines, **others):
    """Returns a function that draws a request with these header lines."""
    form = Form(lines=lines, followed_by=smuggled, **others)
    return lambda draw: refusal(draw, PLAIN, *BAD_FRAMING, form=form, manner="last")


def pipelined_garbage(draw):
    """The event is answered and recorded. The bytes after it end the connection."""
    garbage = draw.dice.randbytes(GARBAGE_BYTES)
    form = Form(followed_by=lambda _: b"\x01\x02\x03 " + garbage + b"\r\n\r\n")
    return dataclasses.replace(events.recorded(draw, events.fields(draw), form=form), manner="last", patience_s=20)


def bytes_instead(manner, draw_bytes):
    """Returns a function that draws bytes to send instead of a request."""
    def draw_operation(draw):
        body = draw_bytes(draw.dice)
        return Operation(draw.op, draw.kind, draw.app, PLAIN, body, BAD_FRAMING, manner=manner, may_be_closed=True)
    return draw_operation


HOSTILE = {
    "two_lengths": hostile("Host: localhost", "Content-Length: LENGTH", "Content-Length: 0"),
    "length_and_chunked": hostile("Host: localhost", "Content-Length: LENGTH", "Transfer-Encoding: chunked",
                                  content=chunks),
    "negative_length": hostile("Host: localhost", "Content-Length: -LENGTH"),
    "name_with_space": hostile("Host: localhost", "Content-Length: LENGTH", "X Y: a"),
    "space_before_colon": hostile("Host: localhost", "Content-Length : LENGTH"),
    "control_byte": hostile("Host: localhost", "Content-Length: LENGTH", "X: a\x01b"),
    "bare_cr": hostile("Host: localhost", "Content-Length: LENGTH", "X: a\rb"),
    "folded_line": hostile("Host: localhost", "Content-Length: LENGTH", "X: a\r\n Content-Length: 0"),
    "two_hosts": hostile("Host: localhost", "Host: example.org", "Content-Length: LENGTH"),
    "no_host": hostile("Content-Length: LENGTH"),
    "gzip_coding": hostile("Host: localhost", "Transfer-Encoding: gzip, chunked", content=chunks),
    "pipelined_garbage": pipelined_garbage,
    "random_bytes": bytes_instead("raw", lambda dice: dice.randbytes(dice.randrange(1, 2000)) + b"\r\n\r\n"),
    "garbage_for_tls": bytes_instead("plain", lambda dice: dice.randbytes(dice.randrange(1, 600))),
    "plain_http": bytes_instead("plain", lambda dice: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "half_hello": bytes_instead("half_hello", lambda dice: b""),
}


def slow_event(manner):
    """Returns a function that draws an event which the receiver records, if the whole request reaches it."""
    return lambda draw: dataclasses.replace(events.recorded(draw, events.fields(draw), form=Form()), manner=manner,
                                            patience_s=20)


def never_ends(draw):
    return refusal(draw, PLAIN, *BAD_FRAMING, manner="never_ends")


SLOW = {  # name: (weight, function)
    "head": (6, slow_event("drip_head")),
    "body": (6, slow_event("drip_body")),
    "never_ends": (2, never_ends),
    "leaves": (10, slow_event("leave")),
    "resets": (10, slow_event("reset")),
    "idle": (20, bytes_instead("idle", lambda dice: b"")),
}
