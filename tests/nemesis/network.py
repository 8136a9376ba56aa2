"""Relays TCP connections between the parts of the installation, and delays, stalls, cuts or refuses them. All links run
in one thread with an event loop of their own; the methods of Link may be called from any thread."""

import asyncio
import contextlib
import threading

CHUNK = 1 << 16
PROBE_PAUSE_S = 0.1  # between two attempts to connect to a target that is down


class Network:
    """The event loop, and lists of links by name. Links with the same name lead to servers of the same kind."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.links = {}
        threading.Thread(target=self.loop.run_forever, daemon=True, name="network").start()

    def add(self, name, target):
        """Creates a link to this port of 127.0.0.1."""
        link = Link(self, target)
        self.links.setdefault(name, []).append(link)
        return link

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def close(self):
        for links in self.links.values():
            for link in links:
                self.wait(link.close())
        self.loop.call_soon_threadsafe(self.loop.stop)


class Link:
    """A relay that listens on a port of 127.0.0.1. It connects to its target from the address of the client, so the
    target sees this address. While the target is down, nothing listens on the port: a client must see what it would see
    without the relay."""

    def __init__(self, network, target):
        self.network, self.target = network, target
        self.delay_s = 0
        self.is_refusing = self.is_closed = False
        self.transports = set()
        self.passing = asyncio.Event()
        self.passing.set()
        self.port, self.server = 0, None
        network.wait(self._listen())

    async def _listen(self):
        self.server = await asyncio.start_server(self._relay, "127.0.0.1", self.port, backlog=1024, limit=CHUNK)
        self.port = self.server.sockets[0].getsockname()[1]

    def _stop_listening(self):
        """Refuses connections until the target accepts them again, and until no fault forbids it."""
        if self.server:
            self.server.close()
            self.server = None
            self.network.loop.create_task(self._wait_for_target())

    async def _wait_for_target(self):
        while not self.is_closed:
            await asyncio.sleep(PROBE_PAUSE_S)
            with contextlib.suppress(OSError):
                if not self.is_refusing:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.target)
                    writer.close()
                    await self._listen()
                    return

    def delay(self, seconds):
        """Sets the delay in each direction."""
        self.delay_s = seconds

    def stall(self, is_stalled):
        """Stops all bytes, or lets them pass again. Connections stay open."""
        self.network.loop.call_soon_threadsafe(self.passing.clear if is_stalled else self.passing.set)

    def cut(self):
        """Resets all connections."""
        self.network.loop.call_soon_threadsafe(self._abort_all)

    def refuse(self, is_refusing):
        """Resets all connections and refuses new ones, or accepts new ones again."""
        self.is_refusing = is_refusing
        if is_refusing:
            self.network.loop.call_soon_threadsafe(self._stop_listening)
            self.cut()

    async def close(self):
        self.is_closed = True
        if self.server:
            self.server.close()
        self._abort_all()

    def _abort_all(self):
        for transport in list(self.transports):
            transport.abort()

    async def _relay(self, reader, writer):
        client = writer.transport
        address = writer.get_extra_info("peername")[0]
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK,
                                                                         local_addr=(address, 0))
        except OSError:
            client.abort()
            self._stop_listening()
            return
        pair = {client, target_writer.transport}
        self.transports |= pair
        try:
            await asyncio.gather(self._pass(reader, target_writer), self._pass(target_reader, writer))
        except OSError:
            for transport in pair:
                transport.abort()
        finally:
            self.transports -= pair
            for transport in pair:
                transport.close()

    async def _pass(self, reader, writer):
        while data := await reader.read(CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self.passing.wait()
            writer.write(data)
            await writer.drain()
        await self.passing.wait()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
