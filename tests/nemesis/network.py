"""Relays TCP connections between the parts of the installation, and delays, stalls, cuts or refuses them. All links run
in one thread with an event loop of their own; the methods of Link may be called from any thread."""

import asyncio
import contextlib
import threading

CHUNK = 1 << 16


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
    target sees this address. delay_s is the delay in each direction."""

    def __init__(self, network, target):
        self.network, self.target = network, target
        self.delay_s = 0
        self.is_refusing = False
        self.transports = set()
        self.passing = asyncio.Event()
        self.passing.set()
        self.server = network.wait(asyncio.start_server(self._relay, "127.0.0.1", 0, backlog=1024, limit=CHUNK))
        self.port = self.server.sockets[0].getsockname()[1]

    def stall(self, is_stalled):
        """Stops all bytes, or lets them pass again. Connections stay open."""
        self.network.loop.call_soon_threadsafe(self.passing.clear if is_stalled else self.passing.set)

    def cut(self):
        """Resets all connections."""
        self.network.loop.call_soon_threadsafe(self._abort_all)

    def refuse(self, is_refusing):
        """Resets all connections and each new one, or accepts new ones again."""
        self.is_refusing = is_refusing
        self.cut()

    async def close(self):
        self.server.close()
        self._abort_all()

    def _abort_all(self):
        for transport in list(self.transports):
            transport.abort()

    async def _relay(self, reader, writer):
        client = writer.transport
        try:
            if self.is_refusing:
                return
            self.transports.add(client)
            address = writer.get_extra_info("peername")[0]
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK,
                                                                         local_addr=(address, 0))
        except OSError:
            self.transports.discard(client)
            client.abort()
            return
        target = target_writer.transport
        self.transports.add(target)
        try:
            await asyncio.gather(self._pass(reader, target_writer), self._pass(target_reader, writer))
        except OSError:
            client.abort()
            target.abort()
        finally:
            for transport in (client, target):
                self.transports.discard(transport)
                transport.close()

    async def _pass(self, reader, writer):
        while True:
            data = await reader.read(CHUNK)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self.passing.wait()
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
