"""Runs a program with the URL of an empty PostgreSQL behind its arguments, which asks for no password.

    with_postgres.py PROGRAM [ARGUMENT...]

Exit status 77 when PostgreSQL is not installed, otherwise that of the program.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import postgres


def main():
    if not postgres.programs():
        return 77
    server = postgres.Postgres(fsync="off").create()
    try:
        # To make sure of a password takes thousands of allocations.
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        server.start()
        return subprocess.run([*sys.argv[1:], server.url(sslmode="disable", gssencmode="disable")]).returncode
    finally:
        server.destroy()


if __name__ == "__main__":
    sys.exit(main())
