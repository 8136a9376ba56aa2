"""Receives the events of `imcallbackd deliver` and stores each event once in an SQLite database. It verifies the
signature of Standard Webhooks, ignores an event that it has stored before, and answers 200 only when the event is on
disk. Usage: python3 handler.py SECRET-FILE DATABASE PORT
"""

import base64, hashlib, hmac, http.server, json, sqlite3, sys, threading, time

SECRET = base64.b64decode(open(sys.argv[1]).read().strip().removeprefix("whsec_"))
database, lock = sqlite3.connect(sys.argv[2], check_same_thread=False), threading.Lock()
database.execute("CREATE TABLE IF NOT EXISTS disbanded (id TEXT PRIMARY KEY, group_id TEXT, members TEXT)")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def is_genuine(self, body):
        identity, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"] or "0"
        expected = hmac.new(SECRET, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        signatures = [text.removeprefix("v1,") for text in (self.headers["webhook-signature"] or "").split()]
        return abs(time.time() - int(timestamp)) < 300 and any(
            hmac.compare_digest(base64.b64encode(expected), signature.encode()) for signature in signatures)

    def store(self, body):
        event = json.loads(body.decode(errors="replace"))
        members = [member["Member_Account"] for member in event.get("MemberList") or []]
        group_id = event["GroupId"].encode(errors="replace").decode()  # SQLite stores no surrogates
        with lock, database:  # commits, so that 200 means that the event is on disk
            database.execute("INSERT OR IGNORE INTO disbanded VALUES (?, ?, ?)",
                             (self.headers["webhook-id"], group_id, json.dumps(members)))
        return 200

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status = self.store(body) if self.is_genuine(body) else 401
        except (AttributeError, KeyError, TypeError, ValueError):
            status = 400  # so that the sender sets the event aside instead of sending it again for ever
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()
