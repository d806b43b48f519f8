"""Streams live on the nodes that have their tags, and move there under load; leaders go where tags say. Answers are
compared with the reference's in tests/parity/placement.txt."""

import json
import os
import shutil
import signal
import subprocess
import time

from test_js_members import finish, holders, meta_leader, replica, settle
from weir_cluster import ROOT, binary, run, wait_until
from weir_js import Js, JsCluster, dump
from weir_load import Load

OLD = os.environ.get("WEIR_BEFORE_TAGS", os.path.join(os.path.dirname(os.path.dirname(binary())), "tests", "system",
                                                      "weir_before_tags"))
FIVE = (["ssd", "az:a", "all"], ["SSD", "az:b", "all"], ["ssd", "hdd", "az:c", "all"], ["hdd", "az:a", "all"],
        ["hdd", "az:b", "all"])
ACK = b"+ACK"


class Tagged(JsCluster):
    """A node for each list of tags."""

    def __init__(self, tags, extra=""):
        super().__init__(len(tags))
        self.extra = extra
        for i, node in enumerate(self.nodes):
            node.config_path = os.path.join(node.folder, "conf")
            node.args += ["-c", node.config_path]
            self.write(i, tags[i])

    def write(self, i, tags):
        with open(self.nodes[i].config_path, "w") as f:
            f.write("server_tags: %s\n%s" % (json.dumps(tags), self.extra))

    def reload(self, i, tags):
        self.write(i, tags)
        self.nodes[i].signal(signal.SIGHUP)

    def start(self):
        """Until meta has heard the last node's tags: a stream can be there."""
        super().start()
        js = Js(self.nodes[0])
        for node in self.nodes:
            tags = node.json("/varz").get("tags", [])
            if tags:
                self.wait_for({"tags": tags}, js)
        js.close()
        return self

    def wait_for(self, placement, js, replicas=1):
        """So many nodes are known to be fit."""
        def check():
            answer = js.api("STREAM.CREATE.PROBE", config("PROBE", replicas, placement))
            if "error" not in answer:
                js.delete("PROBE")
                return True
            return False
        wait_until("nodes for %r" % placement, check, 20)


def config(name, replicas, placement=None):
    c = {"name": name, "subjects": [name.lower()], "num_replicas": replicas, "retention": "limits", "storage": "file"}
    if placement is not None:
        c["placement"] = placement
    return c


def names(nodes):
    return sorted(n.name for n in nodes)


def error(answer):
    return answer["error"]["err_code"], answer["error"]["description"]


def move(js, name, replicas, placement):
    """The move before is over when meta has heard it, a moment after its replicas are there."""
    def check():
        answer = js.api("STREAM.UPDATE." + name, config(name, replicas, placement), 10)
        return None if answer.get("error", {}).get("err_code") == 10124 else answer
    answer = wait_until("an end of the move before", check, 30)
    assert "error" not in answer, answer
    return answer


def wait_refused(js, body):
    """Why it is refused, once it is: a moment before it may be created yet."""
    def check():
        answer = js.api("STREAM.CREATE." + body["name"], body)
        if "error" in answer:
            return error(answer)
        js.delete(body["name"])
        return None
    return wait_until("a refusal", check, 30)


def arrive(c, name, *wanted):
    """Waits until these nodes, and only they, have it."""
    wait_until("%s on %s" % (name, wanted), lambda: tuple(names(holders(c, name))) == wanted, 60, 0.1)
    nodes = settle(c, name, len(wanted))
    assert tuple(names(nodes)) == wanted, names(nodes)
    return nodes


def test_a_new_stream_lives_where_its_tags_are():
    with Tagged(FIVE) as c:
        js = Js(c.nodes[1])
        for name, replicas, tags, wanted in (("A", 3, ["ssd"], "n0 n1 n2"), ("B", 3, ["Hdd "], "n2 n3 n4"),
                                             ("C", 1, ["ssd", "hdd"], "n2"), ("D", 2, ["!ssd"], "n3 n4"),
                                             ("E", 2, ["az:b", "all"], "n1 n4"), ("F", 5, ["all"], "n0 n1 n2 n3 n4")):
            placement = {"cluster": "C", "tags": tags}
            info = js.ok("STREAM.CREATE." + name, config(name, replicas, placement))
            assert info["config"]["placement"] == placement, info
            arrive(c, name, *wanted.split())
        assert error(js.api("STREAM.CREATE.X", config("X", 4, {"tags": ["ssd"]}))) \
            == (10005, "no suitable peers for placement, tags not matched ['ssd']")
        # A node that is down has its tags, but gets nothing.
        down = next(n for n in (c.nodes[0], c.nodes[2]) if n.name != meta_leader(c.nodes[1]))
        down.kill()
        assert wait_refused(js, config("X", 3, {"tags": ["ssd"]})) \
            == (10005, "no suitable peers for placement, peer offline, tags not matched ['ssd']")
        down.start()
        c.wait_ready(timeout=30)
        # What is configured is kept over restarts of all.
        for n in c.nodes:
            n.kill()
        for n in c.nodes:
            n.start()
        c.wait_ready(timeout=40)
        js = Js(c.nodes[0])
        assert js.info("B")["config"]["placement"] == {"cluster": "C", "tags": ["Hdd "]}
        c.wait_for({"tags": ["hdd"]}, js, 3)


def test_a_stream_moves_under_load_and_keeps_what_matches():
    with Tagged(FIVE) as c:
        js = Js(c.nodes[0])
        js.ok("STREAM.CREATE.S", config("S", 3, {"tags": ["ssd"]}))
        js.consumer("S", "C")
        load = Load(c.nodes, "s", rate=500)
        load.start()
        settle(c, "S", 3)
        wait_until("messages", lambda: len(load.acks) > 300, 20)
        got = [m for m in js.fetch("S", "C", 100)]
        for _, _, reply in got[:50]:
            js.client.pub(reply, ACK)
        js.client.ping()
        kept = replica(c.nodes[2], "S")["raft_id"]
        for tags, wanted in (("hdd", "n2 n3 n4"), ("ssd", "n0 n1 n2"), ("hdd", "n2 n3 n4")):
            info = move(js, "S", 3, {"tags": [tags]})
            assert info["config"]["placement"] == {"tags": [tags]}, info
            nodes = arrive(c, "S", *wanted.split())
            assert replica(c.nodes[2], "S")["raft_id"] == kept  # It has never left.
        # Nothing is to be moved: only the configuration changes.
        assert move(js, "S", 3, {"tags": ["hdd"], "cluster": "C"})["config"]["placement"]["cluster"] == "C"
        # Without a placement they stay where they are, as in the reference.
        assert "placement" not in move(js, "S", 3, None)["config"]
        arrive(c, "S", "n2", "n3", "n4")
        info = js.ok("CONSUMER.INFO.S.C")
        assert info["ack_floor"]["stream_seq"] == 50 and info["delivered"]["consumer_seq"] == 100, info
        finish(c, load, "S", nodes)


def test_one_replica_moves_under_load():
    with Tagged(FIVE) as c:
        js = Js(c.nodes[0])
        js.ok("STREAM.CREATE.S", config("S", 1, {"tags": ["ssd", "hdd"]}))
        load = Load(c.nodes, "s", rate=500)
        load.start()
        wait_until("messages", lambda: len(load.acks) > 200, 20)
        for tags, wanted in ((["az:b", "hdd"], "n4"), (["az:a", "ssd"], "n0"), (["az:c"], "n2")):
            move(js, "S", 1, {"tags": tags})
            nodes = arrive(c, "S", wanted)
        finish(c, load, "S", nodes)


def test_a_move_goes_on_after_kills():
    """Of the stream's leader, of meta's, and of all."""
    with Tagged(FIVE) as c:
        js = Js(c.nodes[0])
        js.ok("STREAM.CREATE.S", config("S", 3, {"tags": ["ssd"]}))
        for i in range(300):
            assert js.publish("s", b"%d" % i)
        for turn, (tags, wanted) in enumerate((("hdd", "n2 n3 n4"), ("ssd", "n0 n1 n2"), ("hdd", "n2 n3 n4"))):
            leader = c.leader("S")
            meta = next(n for n in c.nodes if n.name == meta_leader(c.nodes[0]))
            victims = ([leader], [meta], c.nodes)[turn]
            js = Js(c.nodes[0])
            move(js, "S", 3, {"tags": [tags]})
            for n in victims:
                n.kill()
            time.sleep(0.2)
            for n in victims:
                n.start()
            c.wait_ready(timeout=40)
            nodes = arrive(c, "S", *wanted.split())
            c.same("S", nodes)
            assert len(dump(nodes[0], "S")) == 300


def test_other_replicas_than_those_that_are_gone_have_the_tags_too():
    """PEER.REMOVE, SERVER.REMOVE, more replicas: all obey the stream's placement, by what nodes say now."""
    with Tagged(FIVE) as c:
        js = Js(c.nodes[0])
        js.ok("STREAM.CREATE.S", config("S", 2, {"tags": ["hdd", "!ssd"]}))
        arrive(c, "S", "n3", "n4")
        assert error(js.api("STREAM.PEER.REMOVE.S", {"peer": "n3"}))[0] == 10075
        assert error(js.api("STREAM.UPDATE.S", config("S", 3, {"tags": ["hdd", "!ssd"]}))) \
            == (10005, "no suitable peers for placement, tags not matched ['hdd'], tags excluded ['ssd']")
        # New tags move nothing, and count from now on.
        c.reload(1, ["HDD", "all"])
        c.nodes[1].wait_log("Reloaded: tags")
        assert c.nodes[1].json("/varz")["tags"] == ["hdd", "all"]
        c.wait_for({"tags": ["hdd", "!ssd"]}, js, 3)
        assert names(settle(c, "S", 2)) == ["n3", "n4"]
        assert js.ok("STREAM.PEER.REMOVE.S", {"peer": "n3"})["success"]
        arrive(c, "S", "n1", "n4")
        assert js.ok("SERVER.REMOVE", {"peer": "n4"})["success"]
        arrive(c, "S", "n1", "n3")
        # Without tags a node is as any other; one that is closed gets nothing new.
        c.reload(0, [])
        c.reload(2, ["!jetstream", "hdd"])
        wait_until("no tags", lambda: "tags" not in c.nodes[0].json("/varz"))
        assert wait_refused(js, config("T", 4)) == (10005, "no suitable peers for placement, exclude tag set")


def test_of_a_unique_tag_no_two_replicas_have_the_same():
    with Tagged(FIVE, 'jetstream { unique_tag: "AZ:" }\n') as c:
        js = Js(c.nodes[2])
        zone = {"n0": "a", "n1": "b", "n2": "c", "n3": "a", "n4": "b"}
        for k in range(6):
            js.ok("STREAM.CREATE.S%d" % k, config("S%d" % k, 3))
            assert sorted(zone[n] for n in names(settle(c, "S%d" % k, 3))) == ["a", "b", "c"]
        assert error(js.api("STREAM.CREATE.X", config("X", 4))) \
            == (10005, "no suitable peers for placement, server tag not unique")
        js.ok("STREAM.CREATE.B", config("B", 2, {"tags": ["az:b"]}))  # Who asks for it gets it.
        arrive(c, "B", "n1", "n4")
        move(js, "B", 2, {"tags": ["hdd"]})
        wait_until("n1 without it", lambda: names(holders(c, "B")) in (["n2", "n4"], ["n3", "n4"]), 60)
        settle(c, "B", 2)
        # In place of one of them comes one of its zone; of c there is none but n2.
        assert error(js.api("STREAM.PEER.REMOVE.S0", {"peer": "n2"}))[0] == 10075
        leaving = next(n for n in names(settle(c, "S0", 3)) if n != "n2")
        js.ok("STREAM.PEER.REMOVE.S0", {"peer": leaving})
        wait_until("another", lambda: leaving not in names(holders(c, "S0")) and len(holders(c, "S0")) == 3, 60)
        assert sorted(zone[n] for n in names(settle(c, "S0", 3))) == ["a", "b", "c"]
        assert c.nodes[0].json("/varz")["jetstream"]["config"]["unique_tag"] == "az:"


def step_down(js, subject, placement):
    """Until somebody can take it: a moment ago it may not have had all of the log."""
    def check():
        answer = js.api(subject, {"placement": placement})
        return answer.get("success") or (answer["error"]["err_code"] != 10041 and answer)
    answer = wait_until("an answer", check, 20)
    assert answer is True, answer


def test_leaders_go_where_tags_say():
    with Tagged((["one", "x"], ["two", "x"], ["three"])) as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        js.consumer("S", "C")
        settle(c, "S", 3)
        for tag, name in (("one", "n0"), ("three", "n2"), ("TWO", "n1"), ("one", "n0")):
            if c.leader("S").name != name:
                step_down(js, "STREAM.LEADER.STEPDOWN.S", {"tags": [tag]})
            wait_until("leader " + name, lambda: c.leader("S").name == name, 20)
            assert error(js.api("STREAM.LEADER.STEPDOWN.S", {"placement": {"tags": [tag]}})) \
                == (10005, "no replacement peer connected")
        step_down(js, "CONSUMER.LEADER.STEPDOWN.S.C", {"tags": ["x", "two"], "cluster": "C"})
        wait_until("leader n1", lambda: c.leader("S").name == "n1", 20)
        step_down(js, "STREAM.LEADER.STEPDOWN.S", {"preferred": "n2", "cluster": "X", "tags": ["nope"]})
        wait_until("leader n2", lambda: c.leader("S").name == "n2", 20)
        for tag, name in (("three", "n2"), ("two", "n1"), ("One", "n0")):
            if meta_leader(c.nodes[0]) != name:
                step_down(js, "META.LEADER.STEPDOWN", {"tags": [tag]})
            wait_until("meta at " + name, lambda: {meta_leader(n) for n in c.nodes} == {name}, 20)
        for placement in ({"tags": ["x", "three"]}, {"cluster": "X"}, {"tags": ["!one"]}):
            assert error(js.api("META.LEADER.STEPDOWN", {"placement": placement})) \
                == (10005, "no replacement peer connected")


def test_the_cli_places_streams():
    command = os.path.join(os.environ.get("WEIR_PEERS", os.path.join(ROOT, "build", "peers")), "nats")
    if not os.path.exists(command):
        print("     the nats CLI is not there")
        return

    def nats(node, *args):
        done = subprocess.run([command, "-s", "nats://127.0.0.1:%d" % node.port] + list(args), text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, (args, done.stdout)
        return done.stdout

    with Tagged(FIVE) as c:
        nats(c.nodes[3], "stream", "add", "S", "--subjects", "s", "--replicas", "2", "--tag", "ssd", "--tag", "!hdd",
             "--cluster", "C", "--defaults")
        arrive(c, "S", "n0", "n1")
        info = json.loads(nats(c.nodes[1], "stream", "info", "S", "--json"))
        assert info["config"]["placement"] == {"cluster": "C", "tags": ["ssd", "!hdd"]}, info
        nats(c.nodes[2], "stream", "edit", "S", "--tag", "hdd", "--tag", "!ssd", "--force")
        arrive(c, "S", "n3", "n4")
        assert "ssd" in nats(c.nodes[0], "stream", "info", "S")


def test_older_builds_are_not_asked_for_what_they_do_not_know():
    if not os.path.exists(OLD):
        print("     the older build is not there")
        return
    with Tagged((["a"], ["b"], [])) as c:
        for n in c.nodes:
            n.stop()
            shutil.rmtree(os.path.join(n.folder, "js"))
        last = c.nodes[2]
        new, last.binary = last.binary, OLD
        for n in c.nodes:
            n.start()
        c.wait_ready(timeout=30)
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        placed = config("T", 1, {"tags": ["a"]})
        text = "placement is a feature that not all servers are known to have"
        for _ in range(3):
            if meta_leader(c.nodes[0]) != "n2":
                assert error(js.api("STREAM.CREATE.T", placed)) == (10052, text)
                assert error(js.api("STREAM.UPDATE.S", config("S", 3, {"tags": ["a"]}))) == (10052, text)
            assert js.publish("s", b"x")["seq"]
            step_down(js, "META.LEADER.STEPDOWN", {})
            time.sleep(0.5)
        assert "stops here" not in last.log()
        last.stop()
        last.binary = new
        last.start()
        c.wait_ready(timeout=30)
        js = Js(c.nodes[0])
        wait_until("a placed stream", lambda: "error" not in js.api("STREAM.CREATE.T", placed), 20)
        arrive(c, "T", "n0")
        # No way back: the older build says so, and leaves everything as it is.
        last.stop()
        last.binary = OLD
        last.start(ready=False)
        wait_until("what it says", lambda: "machine version" in last.log(), 20)
        assert js.publish("s", b"on")["seq"]
        last.kill()
        last.binary = new
        last.start()
        c.wait_ready(timeout=30)
        c.same("S")


if __name__ == "__main__":
    run(globals())
