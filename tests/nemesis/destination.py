"""The two kinds of destination of the forwarders: a Patroni cluster, and a PostgreSQL server behind PgBouncer. Both
offer ports (of the servers that a forwarder connects to), url(ports), password_file, rows(query), start() and
destroy()."""

import json

from cluster import Patroni
from pooler import Bouncer
from postgres import Postgres
from processes import eventually, free_port


class Cluster(Patroni):
    """A fault is a method that returns the node that it hit, or None if the cluster had no leader."""

    @property
    def ports(self):
        return [node.port for node in self.nodes]

    def pause_leader(self):
        leader = self.wait_leader()
        self.pause_node(leader)
        return leader

    def restart_node(self, node=None):
        if node:
            super().restart_node(node)

    def resume_node(self, node=None):
        if node:
            super().resume_node(node)


class Pooled(Bouncer):
    """PgBouncer in transaction mode with a server of its own."""

    def __init__(self, spawn):
        super().__init__(Postgres(), spawn)
        self.ports = [self.port]

    def create(self):
        self.server.create()
        return self

    def start(self):
        if not self.server.process:
            self.start_server()
        return super().start()

    def start_server(self):
        self.server.start()

    def kill_server(self):
        self.server.end_session()
        self.server.kill()

    def url(self, ports):
        return super().url(ports[0])

    def rows(self, query):
        """Returns the rows as dictionaries. The server may be about to recover from a kill."""
        def ask():
            succeeded, output = self.server.query(f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) AS q")
            return output if succeeded else None

        return json.loads(eventually(ask, "an answer of the destination", 60, 0.2))

    def destroy(self):
        super().destroy()
        self.server.destroy()


def make(kind, network, spawn):
    """Creates the destination with its files. The nodes of a cluster reach etcd through a link."""
    if kind == "pgbouncer":
        return Pooled(spawn).create()
    etcd_port = free_port()
    relay = network.add("etcd", etcd_port)
    return Cluster(spawn, etcd_port=relay.port, own_etcd_port=etcd_port).create()
