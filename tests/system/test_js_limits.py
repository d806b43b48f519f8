"""What a node stores at most: max_file_store and max_memory_store."""

import tempfile

from weir_cluster import Single, run, wait_until
from weir_js import Js, JsCluster


def single(store, limits):
    return Single(config='jetstream { store_dir: "%s", %s }' % (store, limits))


def publish_until_refused(js, subject, most):
    for i in range(most):
        reply = js.publish(subject, b"x" * 1000)
        if "error" in reply:
            return i, reply["error"]
    raise AssertionError("%d publishes were taken" % most)


def test_publishes_are_refused_at_the_limit_and_taken_again_below_it():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, \
            single(store, "max_file: 100K, max_mem: 50K") as n:
        wait_until("JetStream", lambda: n.http("/healthz")[0] == 200)
        js = Js(n)
        config = n.json("/jsz")["config"]
        assert (config["max_storage"], config["max_memory"]) == (100000, 50000), config
        js.create("F", ["f"])
        js.create("M", ["m"], storage="memory")
        for subject, limit in (("f", 100), ("m", 50)):
            taken, error = publish_until_refused(js, subject, 200)
            assert limit * 0.8 < taken <= limit, (subject, taken)
            assert error["err_code"] == 10023 and error["code"] == 503, error
        # Others are refused too, and reads and deletes go on.
        js.create("G", ["g"])
        assert js.publish("g", b"x" * 40000)["error"]["err_code"] == 10023
        assert "error" not in js.get("F", 1)
        js.ok("STREAM.PURGE.F")
        wait_until("room", lambda: "seq" in js.publish("g", b"x" * 1000))
        assert js.publish("m", b"x" * 1000)["error"]["err_code"] == 10023
        # Acknowledged is what was taken, and nothing else.
        assert js.info("M")["state"]["messages"] > 40


def test_a_stream_that_reserves_more_than_is_left_is_not_created():
    with tempfile.TemporaryDirectory(prefix="weir-") as store, \
            single(store, "max_file: 1M, max_mem: 0") as n:
        wait_until("JetStream", lambda: n.http("/healthz")[0] == 200)
        js = Js(n)
        body = lambda name, **more: dict({"name": name, "subjects": [name], "num_replicas": 1}, **more)
        js.ok("STREAM.CREATE.A", body("A", max_bytes=600000))
        reply = js.api("STREAM.CREATE.B", body("B", max_bytes=600000))
        assert reply["error"]["err_code"] == 10047, reply
        js.ok("STREAM.CREATE.A", body("A", max_bytes=600000))  # The same again changes nothing.
        js.ok("STREAM.CREATE.C", body("C", max_bytes=300000))
        reply = js.api("STREAM.CREATE.M", body("M", storage="memory"))
        assert reply["error"]["err_code"] == 10028, reply
        js.delete("A")
        wait_until("the room of A", lambda: "error" not in js.api("STREAM.CREATE.B",
                                                                  body("B", max_bytes=600000)))


def test_the_leader_of_three_refuses():
    with JsCluster(3, config="jetstream { max_file: 50K }") as c:
        js = Js(c.nodes[0])
        js.create("S", ["s"], 3)
        taken, error = publish_until_refused(js, "s", 100)
        assert 30 < taken <= 50 and error["err_code"] == 10023, (taken, error)
        assert c.same("S")["messages"] == taken


if __name__ == "__main__":
    run(globals())
