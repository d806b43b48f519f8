"""Asks a nats-server what subject transforms it takes and what it makes of subjects: record_transforms.py BINARY > FILE.

The cases are drawn from a fixed seed. A line is `SOURCE|DESTINATION|!ERROR` or `SOURCE|DESTINATION|SUBJECT=RESULT|...`;
a subject that the transform leaves alone is its own result. tests/unit/test_subject_transform.c replays the file.
"""

import json
import os
import random
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ["WEIR"] = sys.argv[1]
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))

from weir_cluster import Single  # noqa: E402

FIXED = [("a", "b"), ("a", "b.$1"), ("a", "b.$0"), ("a", "b.$-1"), ("a.*", "b.$0"), ("a.*", "b.$-1"), ("a.*", "b.$+1"),
         ("a.*", "$1"), ("a.*", "$"), ("a.*", "$1x"), ("a.*", "x$1"), ("a.*", "$01"), ("a.*", "$1.$1"),
         ("a", "{{wildcard(1)}}"), ("a", "{{partition(3)}}"), ("a", "{{partition(3,1)}}"), ("a", "{{left(1,1)}}"),
         ("a", "{{Left(0,1)}}"), ("a.*", "{{left(0,1)}}"), ("a.*", "{{wildcard(0)}}"), ("a.*", "{{wildcard(-3)}}"),
         ("a.*", "{{partition(3)}}"), ("a.*.*", "{{partition(3)}}"), ("a.>", "{{partition(3)}}.>"), (">", "{{partition(3)}}.>"),
         ("a.*", "{{partition(0,1)}}"), ("a.*", "{{partition(1,1)}}"), ("a.*", "{{partition(10,1,1)}}"),
         ("a.*", "{{partition(10,0)}}"), ("a.*", "{{partition(10,)}}"), ("a.*", "{{partition(10, 1)}}"),
         ("a.*", "{{partition(10 ,1 )}}"), ("a.*", "{{partition(2147483647,1)}}"), ("a.*", "{{partition(2147483648,1)}}"),
         ("a.*", "{{left(1,2147483648)}}"), ("a.*", "{{left(1,5000000000)}}"), ("a.*", "{{left(1,99999999999999999999)}}"),
         ("a.*", "{{left(1,-1)}}"), ("a.*", "{{left(1,0)}}"), ("a.*", "{{left(1)}}"), ("a.*", "{{left(1,2,3)}}"),
         ("a.*", "{{slicefromleft(1,2)}}"), ("a.*", "{{SliceFromLeft(1,0)}}"), ("a.*", "{{sliceFromRight(1,0)}}"),
         ("a.*", "{{sliceFromRight(1,-2)}}"), ("a.*", "{{splitFromRight(1,-2)}}"), ("a.*", "{{splitfromright(1,2)}}"),
         ("a.*", "{{split(1,)}}"), ("a.*", "{{split(1,--)}}"), ("a.*", "{{split(1,b)}}"), ("a.*", "{{split(1, b)}}"),
         ("a.*", "{{split(1,b )}}"), ("a.*", "{{split(1,a)}}"), ("a.*", "{{split(2,a)}}"), ("a.*", "{{split(0,a)}}"),
         ("a.*", "{{SPLIT(1,a)}}"), ("a.*", "{{ wildcard ( 1 ) }}"), ("a.*", "{{wildcard(1) }}"), ("a.*", "{{\twildcard(1)}}"),
         ("a.*", "{{wildcard(\t1)}}"), ("a.*", "x{{wildcard(1)}}"), ("a.*", "{{wildcard(1)}}x"), ("a.*", "{{x{{wildcard(1)}}"),
         ("a.*", "{{wildcard(1)}}}}"), ("a.*", "{{wildcard(1)x}}"), ("a.*", "{{wildcard(1))}}"), ("a.*", "{{wildcard((1)}}"),
         ("a.*", "{{wildcard 1}}"), ("a.*", "{{wildcard}}"), ("a.*", "{{wildcard()}}"), ("a.*", "{{wildcard( )}}"),
         ("a.*", "{{wildcard(1,)}}"), ("a.*", "{{}}"), ("a.*", "{{x}}"), ("a.*", "{{()}}"), ("a.*", "b.*"), ("a.*", "b.>"),
         ("a.*", "b..c"), ("a.*", ".b"), ("a.*", "b."), ("a.*", "b c"), ("a.*", "b.{{wildcard(1)}} "), ("a b", "c"),
         ("a.>", "b"), ("a.>", "b.>"), ("a.>", ">"), (">", "b.>"), (">", ">"), ("*", "b.>"), ("a.>.b", "c"), ("a.>", "b.>.c"),
         ("*.*.>", "$2.$1.>"), ("*.a.>", "x.{{left(1,1)}}.>"), ("a.*", "b.{{random(0)}}"), ("a.*", "b.{{random(1)}}"),
         ("a", "b.{{random(1)}}"), ("a.*", "b.{{random(-1)}}"), ("a.*", "b.{{random(1,1)}}"), ("a.*", "b.{{random(3000000000)}}"),
         ("", "b"), ("", "b.>"), ("a.*", "b.{{wildcard(1)}"), ("a.*.*", "{{split(1,-)}}.{{split(2,-)}}"),
         ("a.*", "{{wildcard(1)}}.{{partition(5,1)}}.{{left(1,3)}}.{{right(1,2)}}")]
WORDS = ["a", "b", "ab", "abc", "hello", "a-b", "a-b-c", "-a-", "--", "-", "a--b", "x" * 20, "\u00e9t\u00e9", "0", "$1", "1_2"]


def draw_call(r, count):
    index = r.choice([1, 1, 1, 2, 2, 3, count, count + (r.random() < 0.05)])
    n = r.choice([1, 1, 2, 2, 3, 4, 5, 7, 10, 19, 20, 21])
    name = r.choice(["wildcard", "partition", "split", "splitFromLeft", "splitFromRight", "sliceFromLeft", "sliceFromRight",
                     "left", "right"])
    name = name[0].upper() + name[1:] if r.random() < 0.3 else name
    blank = " " if r.random() < 0.2 else ""
    if name.lower() == "wildcard":
        return "$%d" % index if r.random() < 0.5 else "{{%s%s(%d)}}" % (blank, name, index)
    if name.lower() == "partition":
        some = [r.randint(1, max(1, count)) for _ in range(r.randint(0, 3))]
        return "{{%s(%s)}}" % (name, (","+blank).join(str(i) for i in [n] + some))
    if name.lower() == "split":
        return "{{%s(%d,%s)}}" % (name, index, r.choice(["-", "b", "ab", "--", "l"]))
    return "{{%s(%d,%s%d%s)}}" % (name, index, blank, n, blank)


def draw_case(r):
    source = [r.choice(["*", "*", "*", "a", "b"]) for _ in range(r.randint(1, 4))]
    has_rest = r.random() < 0.25
    count = source.count("*")
    dest = [draw_call(r, count) if r.random() < 0.7 else r.choice(["x", "y-z", "$x", "{{", "$"]) for _ in range(r.randint(1, 4))]
    if has_rest:
        source.append(">")
        dest.append(">")
    return ".".join(source), ".".join(dest)


def draw_subject(r, source):
    tokens = []
    for t in source.split("."):
        tokens += [r.choice(WORDS)] if t == "*" else [r.choice(WORDS) for _ in range(r.randint(1, 3))] if t == ">" else [t]
    return ".".join(tokens)


def main():
    r = random.Random(7)
    cases = FIXED + [draw_case(r) for _ in range(500)]
    with tempfile.TemporaryDirectory(prefix="weir-") as store, Single("-js", "-sd", store) as node:
        c = node.client()

        def ask(subject, body):
            m = c.request(subject, body if isinstance(body, str) else json.dumps(body))
            return json.loads(m[4])

        for source, dest in cases:
            firsts = sorted(set(WORDS))
            config = {"name": "S", "subjects": firsts + [w + ".>" for w in firsts], "storage": "memory",
                      "subject_transform": {"src": source, "dest": dest}}
            reply = ask("$JS.API.STREAM.CREATE.S", config)
            line = [source, dest]
            if "error" in reply:
                line.append("!" + reply["error"]["description"])
            else:
                subjects = ["a", "b.c"] + [draw_subject(r, source or ">") for _ in range(4)]
                for s in subjects:
                    seq = ask(s, "x").get("seq")
                    m = ask("$JS.API.STREAM.MSG.GET.S", {"seq": seq})
                    result = m["message"].get("subject", "")
                    if "\ufffd" not in result:  # Half a character: JSON has another one for it.
                        line.append("%s=%s" % (s, result))
                ask("$JS.API.STREAM.DELETE.S", "")
            print("|".join(line))


main()
