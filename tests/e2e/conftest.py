import pytest

import daemon
import postgres

schemas = iter(range(1000))


@pytest.fixture
def make_daemon():
    """Makes daemons that are not started yet. What still runs at the end of the test must stop as it should."""
    made = []

    def make(settings=None, apps=None):
        made.append(daemon.Daemon(settings, apps))
        return made[-1]

    try:
        yield make
        for one in made:
            if one.process:
                one.stop()
    finally:
        for one in made:
            one.destroy()


@pytest.fixture(scope="module")
def shared():
    """One running daemon for all tests of a file that only send to it."""
    with daemon.running() as one:
        yield one


@pytest.fixture(scope="module")
def refusing():
    """One running daemon for all tests of a file that send what must not be recorded."""
    with daemon.running() as one:
        yield one
        assert one.groups() == []


@pytest.fixture(scope="module")
def running_server():
    """One PostgreSQL for all tests of a file."""
    server = postgres.Postgres(max_connections=60).create()
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture
def server(running_server):
    """Empty."""
    return running_server.use_new_schema(f"test{next(schemas)}")


@pytest.fixture
def forward():
    """Starts forwarders, which must stop as they should."""
    started = []

    def start(one):
        started.append(postgres.Forwarder(one).start())
        return started[-1]

    try:
        yield start
        for forwarder in started:
            if forwarder.process:
                forwarder.stop()
    finally:
        for forwarder in started:
            if forwarder.process:
                forwarder.process.kill()
                forwarder.process.wait()
