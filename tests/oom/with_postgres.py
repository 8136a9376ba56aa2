"""with_postgres.py PROGRAM [ARGUMENT...]: runs PROGRAM with the URL of an empty PostgreSQL server as its last argument.

The exit status is that of the program, or 77 if PostgreSQL is not installed.
"""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import postgres


def main():
    if not postgres.programs():
        return 77
    server = postgres.Postgres().create()
    try:
        # Password authentication would add thousands of allocations, and the tests make each allocation fail.
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        server.start()
        return subprocess.run([*sys.argv[1:], server.url(sslmode="disable", gssencmode="disable")]).returncode
    finally:
        server.destroy()


if __name__ == "__main__":
    sys.exit(main())
