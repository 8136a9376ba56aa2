"""Defines the fixtures that end-to-end tests share. A daemon or service that still runs when its fixture ends must stop
cleanly."""

import contextlib

import pytest

import daemon
import delivery
import held
import postgres
from endpoint import Endpoint

MARKERS = {
    "timing": "measures time, so it fails under tools that slow the daemon down",
    "thread_count": "counts threads, so it fails under ThreadSanitizer, which has one of its own",
    "full": "takes long, so only the full run of ctest includes it",
    "without_coverage": "runs the program as another user or with a limit on files, so it cannot write its counters",
}
schemas = iter(range(1000))


def pytest_addoption(parser):
    parser.addoption("--part", choices=("quick", "full"), help="run only the tests without (quick) or with (full) the "
                     "marker full; without this option, both")


def pytest_configure(config):
    for name, reason in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {reason}")


def pytest_collection_modifyitems(config, items):
    if part := config.getoption("--part"):
        left_out = [item for item in items if (item.get_closest_marker("full") is None) != (part == "quick")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def make_daemon():
    """Returns a function that creates daemons without starting them. At the end of the test, each daemon that runs must
    stop cleanly."""
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


@pytest.fixture
def fresh(make_daemon):
    """A daemon that is not started yet."""
    return make_daemon()


@pytest.fixture
def one(fresh):
    """A running daemon."""
    return fresh.start()


@pytest.fixture(scope="module")
def shared():
    """One running daemon for the tests of a file that only send requests to it."""
    with daemon.running() as one:
        yield one


@pytest.fixture(scope="module")
def refusing():
    """One running daemon for the tests of a file that send only requests that the daemon must not record."""
    with daemon.running() as one:
        yield one
        assert one.groups() == []


@pytest.fixture(scope="module", params=[pytest.param(1, id="one loop"),
                                        pytest.param(2, id="two loops", marks=pytest.mark.full)])
def shared_delayed(request):
    """One running daemon with delays for the tests of a file. At the end, it must have released everything. On a busy
    machine, the handshakes of a thousand clients take longer than the default of request_timeout."""
    settings = {"listen": {"threads": request.param},
                "limits": {"connections_per_address": 4096, "request_timeout": "60s"}}
    with held.running(settings) as one:
        yield one


@pytest.fixture
def delayed(shared_delayed):
    """The shared daemon without delays. At the end of the test, it must have released all connections."""
    yield shared_delayed
    shared_delayed.delays.reset()
    shared_delayed.check_released()


@pytest.fixture(scope="module")
def running_server():
    """One PostgreSQL server for all tests of a file."""
    server = postgres.Postgres(max_connections=60).create()
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture
def server(running_server):
    """The server with an empty schema for this test."""
    return running_server.use_new_schema(f"test{next(schemas)}")


@contextlib.contextmanager
def starting(kind):
    """Yields a function that starts services of this kind. At the end of the block, each service that still runs must
    stop cleanly."""
    started = []

    def start(one, **options):
        started.append(kind(one).start(**options))
        return started[-1]

    try:
        yield start
        for service in started:
            if service.process:
                service.stop()
    finally:
        for service in started:
            if service.process:
                service.process.kill()
                service.process.wait()


@pytest.fixture
def forward():
    """Starts forwarders."""
    with starting(postgres.Forwarder) as start:
        yield start


@pytest.fixture
def make_endpoint():
    """Starts endpoints; see Endpoint for the options."""
    made = []

    def make(**options):
        made.append(Endpoint(**options).start())
        return made[-1]

    try:
        yield make
    finally:
        for endpoint in made:
            endpoint.destroy()


@pytest.fixture
def endpoint(make_endpoint):
    """A running endpoint with HTTPS, which accepts everything."""
    return make_endpoint()


@pytest.fixture(scope="module")
def unused_endpoint():
    """One running endpoint for the tests of a file in which no request may arrive."""
    endpoint = Endpoint().start()
    try:
        yield endpoint
        assert endpoint.requests() == []
    finally:
        endpoint.destroy()


@pytest.fixture
def deliver(make_endpoint):
    """Starts deliverers, which stop before the endpoints do."""
    with starting(delivery.Deliverer) as start:
        yield start
