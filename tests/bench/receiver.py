"""Implements a typical receiver in Python with FastAPI, uvicorn, sqlite3 and one transaction per request.

This receiver does the essential work of the daemon: it checks the signature, parses the body, stores group and members
durably, and answers OK.
"""

import hashlib
import hmac
import os
import sqlite3
import time

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sdk_appid INTEGER NOT NULL, group_id TEXT NOT NULL,
    event_time_ms INTEGER, type TEXT, owner TEXT, operator TEXT, name TEXT, client_ip TEXT, received_at_ms INTEGER,
    UNIQUE (sdk_appid, event_time_ms, group_id));
CREATE TABLE IF NOT EXISTS member (
    event_id INTEGER NOT NULL, position INTEGER NOT NULL, account TEXT NOT NULL, PRIMARY KEY (event_id, position));
"""
TOKEN = os.environ["RECEIVER_TOKEN"]

app = FastAPI()
database = sqlite3.connect(os.environ["RECEIVER_DATABASE"])
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.executescript(SCHEMA)


def answer(status, word, info, code):
    return JSONResponse({"ActionStatus": word, "ErrorInfo": info, "ErrorCode": code}, status)


@app.post("/")
async def receive(request: Request, SdkAppid: int, Sign: str, RequestTime: str, ClientIP: str = ""):
    expected = hashlib.sha256((TOKEN + RequestTime).encode()).hexdigest()
    if not hmac.compare_digest(expected, Sign) or abs(time.time() - int(RequestTime)) > 60:
        return answer(403, "FAIL", "signature", 1)
    body = await request.json()
    with database:
        event = database.execute(
            "INSERT INTO event VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (SdkAppid, body["GroupId"], body["EventTime"], body["Type"], body["Owner_Account"],
             body["Operator_Account"], body["Name"], ClientIP, int(time.time() * 1000)))
        database.executemany(
            "INSERT INTO member VALUES (?, ?, ?)",
            ((event.lastrowid, position, member["Member_Account"])
             for position, member in enumerate(body["MemberList"])))
    return answer(200, "OK", "", 0)
