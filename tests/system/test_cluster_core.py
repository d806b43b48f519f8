"""Core NATS between nodes: mesh, interest, queue groups, no responders, failures."""

import socket
import threading
import time

from weir_cluster import Client, Cluster, Node, run, wait_until


def wait_interest(node, subject, is_there=True):
    def check():
        routes = node.json("/routez?subs=1")["routes"]
        found = any(subject in r.get("subscriptions_list", []) for r in routes)
        return found == is_there
    wait_until("interest in %s at %s" % (subject, node.name), check)


def test_messages_reach_subscribers_of_other_nodes_once():
    with Cluster(3) as c:
        c.wait_mesh()
        a, b, d = (n.client() for n in c.nodes)
        b.sub("foo.*", 1)
        b.sub("foo.>", 2)
        d.sub("foo.bar", 7)
        b.ping()
        d.ping()
        wait_interest(c.nodes[0], "foo.bar")
        wait_interest(c.nodes[0], "foo.>")
        a.pub("foo.bar", "hello", reply="re")
        got = sorted(b.msg() for _ in range(2))
        assert [g[1] for g in got] == ["1", "2"], got
        assert all(g[2] == "re" and g[4] == b"hello" for g in got), got
        assert d.msg()[1] == "7"
        b.silent()
        d.silent()
        a.pub("foo.bar", "x", header="NATS/1.0\r\nA: b\r\n\r\n")
        assert b.msg()[3] == b"NATS/1.0\r\nA: b\r\n\r\n"


def test_a_sub_is_known_everywhere_before_a_later_request_of_the_same_client():
    with Cluster(2) as c:
        c.wait_mesh()
        a, b = (n.client() for n in c.nodes)
        b.sub("svc", 1)
        b.ping()
        wait_interest(c.nodes[0], "svc")
        for i in range(200):
            inbox = "_INBOX.%d" % i
            a.sub(inbox, "i%d" % i)
            a.pub("svc", str(i), reply=inbox)
            got = b.msg()
            b.pub(got[2], got[4])
            assert a.msg()[4] == str(i).encode()


class Late:
    """A route through this listener: its first connection says nothing until release(), later ones pass at once."""

    def __init__(self, port):
        self.target = port
        self.released = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        is_first = True
        while True:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.carry, args=(s, is_first), daemon=True).start()
            is_first = False

    def carry(self, s, is_late):
        if is_late:
            self.released.wait(5)
        try:
            other = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            s.close()
            return
        for a, b in ((s, other), (other, s)):
            a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(1 << 16):
                b.sendall(data)
        except OSError:
            pass
        finally:
            for s in (a, b):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.released.set()
        self.listener.close()


def test_a_second_connection_that_comes_late_loses_nothing():
    """Both nodes dial each other; one of the dials gets through when the other one carries messages already."""
    for _ in range(4):  # Whose dial is late is fixed, who of them decides is not.
        c = Cluster(2, seeds=[])
        late = Late(c.cluster_ports[1])
        for node, port in zip(c.nodes, (late.port, c.cluster_ports[0])):
            node.args[node.args.index("--routes") + 1] = "nats://127.0.0.1:%d" % port
        with c:
            c.wait_mesh()
            pairs = []
            for x, y in ((0, 1), (1, 0)):
                sub, pub = c.nodes[y].client(), c.nodes[x].client()
                sub.sub("to%d" % y, 1)
                sub.ping()
                wait_interest(c.nodes[x], "to%d" % y)
                pairs.append((sub, pub, "to%d" % y))
            for i in range(1000):
                if i == 300:
                    late.released.set()
                for _, pub, subject in pairs:
                    pub.pub(subject, "%d" % i)
                if i % 10 == 0:
                    time.sleep(0.001)
            for sub, _, subject in pairs:
                for i in range(1000):
                    assert sub.msg()[4] == b"%d" % i, (subject, i)
        late.close()


def test_any_seed_leads_to_a_full_mesh():
    with Cluster(5, seeds=[0]) as c:
        c.wait_mesh()
        for node in c.nodes:
            assert node.json("/varz")["routes"] == 12, node.json("/varz")["routes"]


def test_a_queue_group_has_one_member_in_the_cluster_and_prefers_local_ones():
    with Cluster(3) as c:
        c.wait_mesh()
        a, b, d = (n.client() for n in c.nodes)
        b.sub("q", 1, "g")
        b.ping()
        wait_interest(c.nodes[0], "q")
        d.sub("q", 1, "g")
        d.ping()
        wait_until("both members", lambda: sum(
            r["subscriptions"] for r in c.nodes[0].json("/routez")["routes"]) == 2)
        for i in range(300):
            a.pub("q", str(i))
        a.ping()
        got = {b: 0, d: 0}
        for client in (b, d):
            try:
                while True:
                    client.msg(0.3)
                    got[client] += 1
            except (TimeoutError, socket.timeout):
                pass
        assert sum(got.values()) == 300, got
        assert all(v > 50 for v in got.values()), got
        a.sub("q", 9, "g")
        for i in range(20):
            a.pub("q", "local")
            assert a.msg()[1] == "9"
        b.silent()


def test_no_responders_is_known_across_nodes():
    with Cluster(2) as c:
        c.wait_mesh()
        a, b = (n.client() for n in c.nodes)
        header = a.request("nobody")[3]
        assert header.startswith(b"NATS/1.0 503"), header
        b.sub("somebody", 1)
        b.ping()
        wait_interest(c.nodes[0], "somebody")
        a.pub("somebody", "x", reply="back")
        assert b.msg()[2] == "back"
        b.send("UNSUB 1\r\n")
        b.ping()
        wait_interest(c.nodes[0], "somebody", False)
        assert a.request("somebody")[3].startswith(b"NATS/1.0 503")


def test_interest_ends_with_its_client_and_its_node():
    with Cluster(2) as c:
        c.wait_mesh()
        b = c.nodes[1].client()
        b.sub("gone", 1)
        b.ping()
        wait_interest(c.nodes[0], "gone")
        b.close()
        wait_interest(c.nodes[0], "gone", False)
        b = c.nodes[1].client()
        b.sub("again", 1)
        b.ping()
        wait_interest(c.nodes[0], "again")
        c.nodes[1].kill()
        wait_until("the routes to go", lambda: c.nodes[0].json("/varz")["routes"] == 0)
        assert c.nodes[0].client().request("again")[3].startswith(b"NATS/1.0 503")
        c.nodes[1].start()
        c.wait_mesh()


def test_a_killed_node_is_down_once_a_dial_is_refused_and_a_stopped_one_after_a_silence():
    with Cluster(3) as c:
        c.wait_mesh()
        c.nodes[2].kill()
        c.nodes[0].wait_log(r'peer_down name=n2 .*why="connection refused"')
        c.nodes[2].start()
        c.wait_mesh()
        import signal
        c.nodes[1].signal(signal.SIGSTOP)
        try:
            c.nodes[0].wait_log(r'peer_down name=n1 .*why="no heartbeat"')
        finally:
            c.nodes[1].signal(signal.SIGCONT)
        c.wait_mesh()


def test_clients_hear_of_other_nodes():
    with Cluster(2) as c:
        c.wait_mesh()
        a = c.nodes[0].client()
        urls = a.infos[-1]["connect_urls"]
        assert "127.0.0.1:%d" % c.nodes[1].port in urls, urls
        c.nodes[1].kill()
        def gone():
            a.ping()
            return "connect_urls" not in a.infos[-1]
        wait_until("INFO without the dead node", gone)
        c.nodes[1].start()
        c.wait_mesh()
        def back():
            a.ping()
            return len(a.infos[-1].get("connect_urls", [])) == 2
        wait_until("INFO with both nodes", back)


def test_routes_need_the_right_credentials():
    with Cluster(2, auth="u:secret@") as c:
        c.wait_mesh()
        wrong = Node(c.folder + "/x", ["--cluster", "nats://127.0.0.1:-1", "--cluster_name", "C",
                                       "--routes", "nats://u:wrong@127.0.0.1:%d" % c.cluster_ports[0]],
                     "x")
        c.nodes.append(wrong)
        wrong.start()
        c.nodes[0].wait_log("authentication error")
        assert wrong.json("/varz")["routes"] == 0
        assert c.nodes[0].json("/varz")["remotes"] == 1


def test_another_cluster_name_and_a_doubled_server_name_are_refused():
    with Cluster(2) as c:
        c.wait_mesh()
        for name, cluster, text in (("x", "OTHER", "does not match"),
                                    ("n1", "C", "uplicate server name")):
            node = Node(c.folder + "/" + name + cluster,
                        ["--cluster", "nats://127.0.0.1:-1", "--cluster_name", cluster,
                         "--routes", "nats://127.0.0.1:%d" % c.cluster_ports[0]], name)
            c.nodes.append(node)
            node.start()
            c.nodes[0].wait_log(text)
            assert c.nodes[0].json("/varz")["remotes"] == 1


def test_who_speaks_something_else_on_the_cluster_port_is_told_and_closed():
    with Cluster(1) as c:
        for text in ("CONNECT {}\r\n", "GET / HTTP/1.1\r\n\r\n"):
            s = Client(c.cluster_ports[0])
            s.send(text)
            assert s.until_closed() == "-ERR 'attempted to connect to route port'\r\n"
        s = Client(c.cluster_ports[0])
        s.send(b"WEIRPEER" + b"\xff" * 12)
        s.until_closed()
        s = Client(c.cluster_ports[0])
        s.until_closed(4)  # Says nothing: closed after 2 s.
        c.nodes[0].client().ping()


if __name__ == "__main__":
    run(globals())
