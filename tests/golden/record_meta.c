/* Records golden logs of the meta machine: record_meta FOLDER writes meta_vN.log for each machine
 * version, unless it is there already: what was recorded is never recorded anew.
 *
 * Entries are drawn from a fixed seed with an eye on the state, so that reports fit placements and
 * what is lost was there; one in a few does not fit. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/golden/golden_meta.h"

#define ENTRIES 600
#define NODES_MAX 9
#define NAMES_MAX 12

struct recorder {
    struct golden_meta g;
    struct buf entry;
    struct buf out;
    unsigned version;
    uint64_t index;
    int64_t now_ns;
    uint64_t seed;
};

/* Numbers in [0, below). splitmix64. */
static uint64_t draw(struct recorder *w, uint64_t below)
{
    uint64_t z = w->seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

static void end(struct recorder *w)
{
    struct golden_step step;
    int rv = golden_meta_step(&w->g, ++w->index, buf_slice(&w->entry), &step);
    if (rv != 0) {
        fprintf(stderr, "entry %llu cannot be applied: %.*s\n", (unsigned long long)w->index,
                (int)w->entry.len, (const char *)w->entry.ptr);
        exit(1);
    }
    golden_log_add(&w->out, &step);
    buf_clear(&w->entry);
    w->now_ns += (int64_t)draw(w, 1000000000);
    if (draw(w, 10) == 0) {
        w->now_ns -= 3000000000; /* Leaders' clocks differ. */
    }
}

static struct meta_asker draw_asker(struct recorder *w)
{
    static const char *const inboxes[] = {"", "", "_INBOX.abc.1", "_INBOX.\"quoted\""};
    return (struct meta_asker){1 + draw(w, NODES_MAX), slice_str(inboxes[draw(w, 4)])};
}

/* Of several streams only one has the subjects: the rest is refused. The name comes in front. */
static const char *const configs[] = {
    "\"subjects\":[\"%s\"]",
    "\"subjects\":[\"%s\",\"%s.*\",\"two.%s.>\"],\"max_msgs\":100,\"max_bytes\":1000000,"
    "\"discard\":\"new\",\"max_msgs_per_subject\":3,\"discard_new_per_subject\":true",
    "\"subjects\":[\"%s.>\"],\"retention\":\"workqueue\",\"max_consumers\":4,\"max_msg_size\":512",
    "\"subjects\":[\"%s.x\"],\"retention\":\"interest\",\"storage\":\"memory\",\"max_age\":"
    "3600000000000,\"duplicate_window\":1000000000",
    "\"subjects\":[\"%s\"],\"description\":\"says \\\"what\\\" it is\",\"metadata\":{\"a\":\"1\","
    "\"b\":\"\\u00e9\"},\"first_seq\":77",
    "\"subjects\":[\"%s\"],\"no_ack\":true,\"allow_direct\":true,\"deny_delete\":true,"
    "\"deny_purge\":true,\"allow_rollup_hdrs\":true,\"mirror_direct\":true",
    "\"subjects\":[\"%s\"],\"sealed\":true",
    "\"subjects\":[\"shared.>\"]",
};
#define CONFIGS (sizeof configs / sizeof configs[0])

static const char *const placements[] = {
    ",\"placement\":{\"cluster\":\"C1\"}",
    ",\"placement\":{\"tags\":[\"ssd\",\"zone:a\"]}",
    ",\"placement\":{\"cluster\":\"C1\",\"tags\":[\"zone:b\"]}",
};

static const char *const limits[] = {
    ",\"consumer_limits\":{\"max_ack_pending\":50}",
    ",\"consumer_limits\":{\"inactive_threshold\":60000000000}",
    ",\"consumer_limits\":{\"inactive_threshold\":1,\"max_ack_pending\":-1}",
};

static const char *const transforms[] = {
    ",\"subject_transform\":{\"src\":\"a.*\",\"dest\":\"b.$1\"}",
    ",\"subject_transform\":{\"src\":\"\",\"dest\":\"b.{{partition(4)}}.>\"}",
    ",\"subject_transform\":{\"src\":\"a\",\"dest\":\"\"}",
};

static const char *const republishes[] = {
    ",\"republish\":{\"src\":\">\",\"dest\":\"re.>\"}",
    ",\"republish\":{\"src\":\"a.*\",\"dest\":\"re.$1\",\"headers_only\":true}",
    ",\"republish\":{\"src\":\">\",\"dest\":\"\"}",
};

static void draw_name(struct recorder *w, char name[16])
{
    (void)snprintf(name, 16, "S%llu", (unsigned long long)draw(w, NAMES_MAX));
}

static void draw_config(struct recorder *w, struct stream_config *c)
{
    char name[16];
    struct buf b = BUF_EMPTY;
    draw_name(w, name);
    buf_printf(&b, "{\"name\":\"%s\",", name);
    for (const char *p = configs[draw(w, CONFIGS)]; *p != '\0'; p++) {
        if (p[0] == '%' && p[1] == 's') {
            buf_append_str(&b, name);
            p++;
        } else {
            buf_append_u8(&b, (uint8_t)*p);
        }
    }
    buf_printf(&b, ",\"num_replicas\":%llu", (unsigned long long)(1 + draw(w, META_REPLICAS_MAX)));
    if (w->version >= 2 && draw(w, 2) == 0) {
        buf_append_str(&b, placements[draw(w, sizeof placements / sizeof placements[0])]);
    }
    if (w->version >= 3 && draw(w, 2) == 0) {
        buf_append_str(&b, limits[draw(w, sizeof limits / sizeof limits[0])]);
    }
    if (w->version >= 4 && draw(w, 2) == 0) {
        buf_append_str(&b, transforms[draw(w, sizeof transforms / sizeof transforms[0])]);
    }
    if (w->version >= 5 && draw(w, 2) == 0) {
        buf_append_str(&b, republishes[draw(w, sizeof republishes / sizeof republishes[0])]);
    }
    buf_append_u8(&b, '}');
    if (stream_config_parse(c, buf_slice(&b)) != 0) {
        fprintf(stderr, "no configuration: %.*s\n", (int)b.len, (const char *)b.ptr);
        exit(1);
    }
    buf_close(&b);
}

static size_t draw_nodes(struct recorder *w, uint64_t nodes[META_REPLICAS_MAX])
{
    size_t count = 1 + draw(w, META_REPLICAS_MAX);
    uint64_t at = draw(w, NODES_MAX);
    for (size_t i = 0; i < count; i++) {
        nodes[i] = 1 + (at + i) % NODES_MAX;
    }
    return count;
}

/* NULL: there is none yet. */
static const struct meta_stream *draw_stream(struct recorder *w)
{
    size_t count = meta_streams_count(w->g.m);
    if (count == 0) {
        return NULL;
    }
    const struct meta_stream **list = meta_streams_sorted(w->g.m);
    const struct meta_stream *s = list[draw(w, count)];
    free(list);
    return s;
}

static void draw_node(struct recorder *w)
{
    static const char *const tags[] = {"ssd", "zone:a", "zone:b", "big"};
    char name[16];
    struct meta_node node = {.node_id = 1 + draw(w, NODES_MAX),
                             .boot_count = 1 + draw(w, 50),
                             .has_jetstream = draw(w, 8) != 0,
                             .raft_id = draw(w, 3) == 0 ? 1 + draw(w, 5) : 0};
    (void)snprintf(name, sizeof name, "n%llu", (unsigned long long)node.node_id);
    node.name = name;
    for (uint64_t i = draw(w, 4); i > 0; i--) {
        (void)tags_add(&node.tags, slice_str(tags[draw(w, 4)]));
    }
    uint64_t replaces = draw(w, 10) == 0 ? 1 + draw(w, NODES_MAX) : 0;
    meta_encode_node(&w->entry, w->now_ns, w->version, &node, replaces);
    tags_close(&node.tags);
}

/* What a leader tells once some of the old peers are gone; now and then of another placement. */
static void draw_members(struct recorder *w, const struct meta_stream *s)
{
    struct meta_peer members[META_REPLICAS_MAX + META_OLD_MAX];
    size_t count = 0;
    for (size_t i = 0; i < s->peers_count; i++) {
        members[count++] = s->peers[i];
    }
    for (size_t i = 0; i < s->old_count; i++) {
        if (draw(w, 3) == 0) {
            members[count++] = s->old[i];
        }
    }
    uint64_t placed = s->placed - (draw(w, 8) == 0 ? 1 : 0);
    uint64_t conf = s->reported + draw(w, 4);
    meta_encode_members(&w->entry, w->now_ns, s->gid, placed, conf, members, count);
}

static void draw_entry(struct recorder *w)
{
    uint64_t nodes[META_REPLICAS_MAX];
    size_t count = draw_nodes(w, nodes);
    struct meta_asker asker = draw_asker(w);
    const struct meta_stream *s = draw_stream(w);
    struct stream_config c;
    char name[16];
    draw_name(w, name);
    switch (draw(w, 14)) {
    case 0:
    case 1:
        draw_node(w);
        break;
    case 2:
        meta_encode_forget(&w->entry, w->now_ns, 1 + draw(w, NODES_MAX + 2), &asker);
        break;
    case 3:
        meta_encode_delete(&w->entry, w->now_ns, slice_str(name), &asker);
        break;
    case 4:
    case 5:
        meta_encode_place(&w->entry, w->now_ns, slice_str(name), nodes, count, &asker);
        break;
    case 6:
    case 7:
        draw_config(w, &c);
        meta_encode_update(&w->entry, w->now_ns, &c, nodes, draw(w, 2) == 0 ? 0 : count, &asker);
        stream_config_close(&c);
        break;
    case 8:
    case 9:
        if (s != NULL) {
            draw_members(w, s);
            break;
        }
        meta_encode_lost(&w->entry, w->now_ns, 99, 1);
        break;
    case 10:
        if (s != NULL) {
            uint64_t raft_id = s->peers[draw(w, s->peers_count)].raft_id;
            meta_encode_lost(&w->entry, w->now_ns, s->gid, raft_id - (draw(w, 6) == 0 ? 1 : 0));
            break;
        }
        meta_encode_lost(&w->entry, w->now_ns, 99, 1);
        break;
    case 11:
        if (s != NULL) { /* The same once more. */
            meta_encode_create(&w->entry, w->now_ns, &s->config, nodes, count, &asker);
            break;
        }
        /* fall through */
    default:
        draw_config(w, &c);
        meta_encode_create(&w->entry, w->now_ns, &c, nodes, count, &asker);
        stream_config_close(&c);
        break;
    }
}

static int write_file(const char *path, struct slice bytes)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes.ptr, 1, bytes.len, f) != bytes.len || fclose(f) != 0) {
        perror(path);
        return 1;
    }
    printf("%s: %zu bytes\n", path, bytes.len);
    return 0;
}

static int record(const char *path, unsigned version)
{
    struct recorder w = {.version = version, .seed = 1000 + version, .now_ns = 1700000000000000000};
    golden_meta_open(&w.g);
    golden_log_begin(&w.out, 0, SLICE_EMPTY);
    for (unsigned i = 0; i < ENTRIES; i++) {
        draw_entry(&w);
        end(&w);
    }
    int rv = 1;
    if (meta_machine_version(w.g.m) != version) {
        fprintf(stderr, "the entries need version %u, not %u\n", meta_machine_version(w.g.m),
                version);
    } else {
        rv = write_file(path, buf_slice(&w.out));
    }
    golden_meta_close(&w.g);
    buf_close(&w.entry);
    buf_close(&w.out);
    return rv;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: record_meta FOLDER\n");
        return 2;
    }
    int rv = 0;
    for (unsigned version = 1; version <= META_MACHINE_VERSION && rv == 0; version++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/meta_v%u.log", argv[1], version);
        if (access(path, F_OK) == 0) {
            printf("%s is there already\n", path);
        } else {
            rv = record(path, version);
        }
    }
    return rv;
}
