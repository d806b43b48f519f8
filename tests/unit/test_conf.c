#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/conf.h"
#include "storage/base/err.h"

/* A file system of a few names and an environment. */
static const char *load(void *ctx, const char *from, const char *name, char **ret_path,
                        struct buf *ret_text)
{
    (void)ctx;
    (void)from;
    static const char *const files[][2] = {{"a.conf", "x: 1\ny { z: $x }\n"},
                                           {"loop.conf", "include loop2.conf\n"},
                                           {"loop2.conf", "include 'loop.conf'\n"},
                                           {"bad.conf", "x: {\n"},
                                           {"outer.conf", "q: $OUT\n"}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(name, files[i][0]) == 0) {
            *ret_path = xstrndup(name, strlen(name));
            buf_append_str(ret_text, files[i][1]);
            return NULL;
        }
    }
    return "no such file";
}

static const char *env(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "PORT") == 0     ? "4333"
           : strcmp(name, "LIST") == 0   ? "[1, two]"
           : strcmp(name, "NAME") == 0   ? "s-1"
           : strcmp(name, "SELF") == 0   ? "$SELF"
           : strcmp(name, "BROKEN") == 0 ? "1 2"
                                         : NULL;
}

static const struct conf_options options = {NULL, load, env};

/* The tree as JSON-like text, keys in the order they stay. */
static void print(struct buf *out, const struct conf_value *v)
{
    switch (v->type) {
    case CONF_BOOL:
        buf_append_str(out, v->boolean ? "true" : "false");
        break;
    case CONF_INT:
        buf_printf(out, "%lld", (long long)v->integer);
        break;
    case CONF_FLOAT:
        buf_printf(out, "%gf", v->number);
        break;
    case CONF_STRING:
        buf_printf(out, "'%.*s'", SLICE_ARG(v->string));
        break;
    case CONF_DATETIME:
        buf_printf(out, "@%lld", (long long)v->time_s);
        break;
    case CONF_MAP:
    case CONF_ARRAY:
        buf_append_str(out, v->type == CONF_MAP ? "{" : "[");
        for (const struct conf_value *c = conf_first(v); c != NULL; c = conf_next(c)) {
            if (c != conf_first(v)) {
                buf_append_str(out, ",");
            }
            if (c->key != NULL) {
                buf_printf(out, "%s:", c->key);
            }
            print(out, c);
        }
        buf_append_str(out, v->type == CONF_MAP ? "}" : "]");
        break;
    }
}

static char *parse_text(const char *text)
{
    struct conf *c = NULL;
    struct buf out = BUF_EMPTY;
    if (conf_parse(slice_str(text), "t.conf", &options, &c, &out) == 0) {
        print(&out, conf_root(c));
        conf_free(c);
    }
    buf_append_u8(&out, 0);
    return (char *)out.ptr;
}

static void expect(const char *text, const char *tree)
{
    char *got = parse_text(text);
    cr_expect_str_eq(got, tree, "%s gives %s, not %s", text, got, tree);
    free(got);
}

Test(conf, separators_and_terminators)
{
    expect("a = 1\nb : 2\nc 3\nd{ e: 1 }\n",
           "Parse error on line 4: 'Expected a top-level value to "
           "end with a new line, comment or EOF, but got '1' "
           "instead.'");
    expect("a = 1\nb : 2\nc 3\nd { e: 1 }\nf\n{\n g 1\n}\n", "{a:1,b:2,c:3,d:{e:1},f:{g:1}}");
    expect("a: 1, b: 2; c: 3;\nd: 4,\n", "{a:1,b:2,c:3,d:4}");
    expect("m { a: 1, b: 2; c: 3\n d: 4, }", "{m:{a:1,b:2,c:3,d:4}}");
    expect("m {\n a:\n  1\n}", "{m:{a:1}}");
    expect("a: 1\r\nb: x\r\n", "{a:1,b:'x'}");
}

Test(conf, comments)
{
    expect(
        "# one\na: 1 # two\n// three\nb: 2 // four\nm { # five\n c: 1 // six\n}\nd: [ # seven\n 1 "
        "# eight\n]\n",
        "{a:1,b:2,m:{c:1},d:[1]}");
    expect("a: http://x#y\n", "{a:'http://x#y'}");
}

Test(conf, a_file_may_be_json)
{
    expect("{\"a\": 1, \"b\": {\"c\": [1, \"x\", true]}, \"d\": \"y\"}\n",
           "{a:1,b:{c:[1,'x',true]},d:'y'}");
    expect("{\n  \"a\": 1\n}\n# end\n", "{a:1}");
    expect("{ a: foo, b: $PORT }", "{a:'foo',b:4333}");
}

Test(conf, keys_are_bare_or_quoted_and_may_have_dots)
{
    expect("a.b.* : 1\n\"c d\": 2\n'e:f' = 3\n", "{a.b.*:1,c d:2,e:f:3}");
    expect("a: 1\nb: 2\na: 3\n", "{b:2,a:3}");
}

Test(conf, arrays)
{
    expect("a: [1, 2, 3]\nb: [\n x\n y\n]\nc: [ [1], {d: 1} , ]\ne: []\n",
           "{a:[1,2,3],b:['x','y'],c:[[1],{d:1}],e:[]}");
}

Test(conf, strings)
{
    expect("a: \"x\\ty\\x41\\\"\\\\\"\nb: 'raw\\t\"'\nc: bare/path-1:2\nd: \"two\nlines\"\n",
           "{a:'x\ty\x41\"\\',b:'raw\\t\"',c:'bare/path-1:2',d:'two\nlines'}");
    expect("a: (\n one )\n two\n)\nb: 1\n", "{a:'\n one )\n two\n',b:1}");
    expect("a: nats://u:p@h:4222\nb: 127.0.0.1:4222\nc: 1.2.3\nd: 1abc\n",
           "{a:'nats://u:p@h:4222',b:'127.0.0.1:4222',c:'1.2.3',d:'1abc'}");
    expect("a: x\\\\y\n", "{a:'x\\y'}");
}

Test(conf, booleans_in_any_case)
{
    expect("a: true, b: YES, c: On, d: false, e: no, f: OFF, g: \"true\"\n",
           "{a:true,b:true,c:true,d:false,e:false,f:false,g:'true'}");
}

Test(conf, integers_take_decimal_and_binary_suffixes)
{
    expect("a: 1k, b: 2K, c: 1kb, d: 1ki, e: 1KiB, f: 3m, g: 1MB, h: 1g, i: 1Gi, j: 1t, k: 1p, l: "
           "1e\n",
           "{a:1000,b:2000,c:1024,d:1024,e:1024,f:3000000,g:1048576,h:1000000000,i:1073741824,"
           "j:1000000000000,k:1000000000000000,l:1000000000000000000}");
    expect("a: -1\nb: -2kb\nc: 007\n", "{a:-1,b:-2048,c:7}");
    expect("a: 2m\nb: 10ms\nc: 30s\nd: 1h\ne: 1m30s\n",
           "{a:2000000,b:'10ms',c:'30s',d:'1h',e:'1m30s'}");
    expect("a: 9223372036854775808\n", "integer '9223372036854775808' is out of the range");
    expect("a: 99e\n", "integer '99e' is out of the range");
    expect("a: 1kbb\n", "Parse error on line 1: 'Unknown size suffix 'kbb'.'");
}

Test(conf, floats_and_datetimes)
{
    expect("a: 1.5\nb: -0.25\nc: 2016-05-04T18:53:41Z\nd: 2024-02-29T00:00:00Z\n",
           "{a:1.5f,b:-0.25f,c:@1462388021,d:@1709164800}");
    expect("a: 2016-05-04\n",
           "Parse error on line 1: 'All ISO8601 dates must be in full Zulu form.'");
    expect("a: 2023-02-29T00:00:00Z\n",
           "expected Zulu formatted DateTime, but got a date that does not exist");
    expect("a: .5\n", "Parse error on line 1: 'Floats must start with a digit'");
    expect("a: 1.\n",
           "Parse error on line 1: 'Floats must have a digit after the '.', but got '\\n' "
           "instead.'");
}

Test(conf, variables_come_from_enclosing_maps_then_from_the_environment)
{
    expect("x: 1\nm { x: 2, n { y: $x } }\nz: $x\n", "{x:1,m:{x:2,n:{y:2}},z:1}");
    expect("l: [1, {a: b}]\nk: $l\n", "{l:[1,{a:'b'}],k:[1,{a:'b'}]}");
    expect("p: $PORT\nl: $LIST\nn: $NAME\n", "{p:4333,l:[1,'two'],n:'s-1'}");
    expect("a: 1\n\nb: $NONE\n", "variable reference for 'NONE' on line 3 can not be found");
    expect("a: $a\n", "variable reference for 'a' on line 1 can not be found");
    expect("a: $SELF\n", "variable references are nested too deeply, or refer to each other");
    expect("a: \"$PORT\"\n", "{a:'$PORT'}");
    char *got = parse_text("a: $BROKEN\n");
    cr_expect_neq(got[0], '{');
    free(got);
}

Test(conf, a_bare_bcrypt_hash_is_taken_as_it_is)
{
    expect("p: $2a$11$abc/DEF.ghi\n", "{p:'$2a$11$abc/DEF.ghi'}");
    expect("p: $2b$11$abc\n", "variable reference for '2b$11$abc' on line 1 can not be found");
}

Test(conf, used_variables_are_marked)
{
    struct conf *c;
    struct buf error = BUF_EMPTY;
    cr_assert_eq(conf_parse(SLICE_LIT("x: 1\ny: $x\n"), "t", &options, &c, &error), 0);
    cr_expect(conf_get(conf_root(c), "x")->is_variable);
    cr_expect_not(conf_get(conf_root(c), "y")->is_variable);
    cr_expect_null(conf_get(conf_root(c), "z"));
    conf_free(c);
}

Test(conf, includes_merge_into_the_map_they_stand_in)
{
    expect("include a.conf\nw: $x\n", "{x:1,y:{z:1},w:1}");
    expect("m { include \"a.conf\"\n v: 1 }\n", "{m:{x:1,y:{z:1},v:1}}");
    expect("x: 5\nInclude 'a.conf'\n", "{x:1,y:{z:1}}");
    expect("OUT: 1\ninclude outer.conf\n",
           "variable reference for 'OUT' on line 1 can not be found");
    expect("include none.conf\n", "error parsing include file 'none.conf', no such file");
    expect("include bad.conf\n", "Parse error on line 2: 'Unexpected EOF processing map.'");
    expect("include loop.conf\n",
           "error parsing include file 'loop.conf', it is being included already");
    expect("include: 3\n", "{include:3}");
}

Test(conf, errors_say_the_line)
{
    expect("a: 1\n}\n", "Parse error on line 2: 'Expected a key but got '}''");
    expect("port 4222\nport: {\n", "Parse error on line 3: 'Unexpected EOF processing map.'");
    expect("a: b c\n", "Parse error on line 1: 'Expected a top-level value to end with a new line, "
                       "comment or EOF, but got 'c' instead.'");
    expect("a: [1 2]\n",
           "Parse error on line 1: 'Expected an array value terminator \",\" or an array "
           "terminator \"]\", but got '2' instead.'");
    expect("a: {b: 1 c: 2}\n",
           "Parse error on line 1: 'Expected a map value terminator \",\" or a map "
           "terminator \"}\", but got 'c' instead.'");
    expect("a: \"x\\q\"\n",
           "Parse error on line 1: 'Invalid escape character 'q'. Only the following "
           "escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.'");
    expect("a:\n", "Parse error on line 2: 'Expected value but found new line'");
    expect("a: -x\n", "Parse error on line 1: 'Expected a digit but got 'x'.'");
    expect(": 1\n", "Parse error on line 1: 'Unexpected key separator ':''");
    expect("a: \"x", "Parse error on line 1: 'Unexpected EOF.'");
    expect("a: (\nx", "Parse error on line 2: 'Unexpected EOF processing block.'");
    expect("a: [1,,2]", "Parse error on line 1: 'Unexpected array value terminator \",\".'");
    expect("a", "Parse error on line 1: 'Unexpected EOF.'");
}

Test(conf, positions_are_those_of_keys_and_of_values_in_arrays)
{
    struct conf *c;
    struct buf error = BUF_EMPTY;
    const char *text = "a: 1\n  \"b\": { c: 1 }\nd: [ \"x\", y ]\n";
    cr_assert_eq(conf_parse(slice_str(text), "t.conf", &options, &c, &error), 0);
    const struct conf_value *b = conf_get(conf_root(c), "b");
    cr_expect_eq(b->line, 2);
    cr_expect_eq(b->col, 3);
    cr_expect_eq(conf_get(b, "c")->col, 9);
    const struct conf_value *x = conf_first(conf_get(conf_root(c), "d"));
    cr_expect_eq(x->line, 3);
    cr_expect_eq(x->col, 6);
    cr_expect_eq(conf_next(x)->col, 10);
    cr_expect_str_eq(x->path, "t.conf");
    conf_free(c);
}

Test(conf, depth_and_size_are_bounded)
{
    struct buf deep = BUF_EMPTY;
    for (int i = 0; i < 100000; i++) {
        buf_append_str(&deep, i % 2 == 0 ? "a {" : "a [");
    }
    buf_append_u8(&deep, 0);
    char *got = parse_text((char *)deep.ptr);
    cr_expect_neq(got[0], '{');
    free(got);
    buf_clear(&deep);
    /* References that nest what they refer to, and that multiply it. */
    buf_append_str(&deep, "a0: 1\n");
    for (int i = 1; i < 200; i++) {
        buf_printf(&deep, "a%d: { b: $a%d }\n", i, i - 1);
    }
    buf_append_u8(&deep, 0);
    got = parse_text((char *)deep.ptr);
    cr_expect_str_eq(got, "maps and arrays are nested more than 64 deep");
    free(got);
    buf_clear(&deep);
    buf_append_str(&deep, "a0: [1,1,1,1,1,1,1,1,1,1]\n");
    for (int i = 1; i < 10; i++) {
        buf_printf(&deep, "a%d: [ $a%d, $a%d, $a%d, $a%d, $a%d, $a%d ]\n", i, i - 1, i - 1, i - 1,
                   i - 1, i - 1, i - 1);
    }
    buf_append_u8(&deep, 0);
    got = parse_text((char *)deep.ptr);
    cr_expect_str_eq(got, "the configuration has more than 200000 values");
    free(got);
    buf_close(&deep);
}
