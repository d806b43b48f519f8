#include <criterion/criterion.h>

#include <stdlib.h>

#include "broker/meta.h"
#include "storage/base/err.h"

struct seen {
    int created, repeated, updated, placed, deleted, removed, refused, nodes;
    int err_code;
    uint64_t asker;
    char inbox[32];
};

static void note(struct seen *s, const struct meta_asker *asker)
{
    s->asker = asker->node_id;
    if (asker->inbox.len > 0) {
        memcpy(s->inbox, asker->inbox.ptr, asker->inbox.len);
    }
    s->inbox[asker->inbox.len] = 0;
}

static void on_created(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    (void)s;
    (void)index;
    ((struct seen *)arg)->created++;
    note(arg, asker);
}

static void on_repeated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                        uint64_t index)
{
    (void)s;
    (void)index;
    (void)asker;
    ((struct seen *)arg)->repeated++;
}

static void on_updated(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    (void)s;
    (void)index;
    (void)asker;
    ((struct seen *)arg)->updated++;
}

static void on_placed(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                      uint64_t index)
{
    (void)s;
    (void)index;
    (void)asker;
    ((struct seen *)arg)->placed++;
}

static void on_deleted(void *arg, const struct meta_stream *s, const struct meta_asker *asker,
                       uint64_t index)
{
    (void)s;
    (void)index;
    (void)asker;
    ((struct seen *)arg)->deleted++;
}

static void on_refused(void *arg, const char *type, const struct api_error *error,
                       const struct meta_asker *asker, uint64_t index)
{
    (void)type;
    (void)index;
    (void)asker;
    ((struct seen *)arg)->refused++;
    ((struct seen *)arg)->err_code = error->err_code;
}

static void on_node(void *arg, const struct meta_node *n)
{
    (void)n;
    ((struct seen *)arg)->nodes++;
}

static void on_removed(void *arg, const struct meta_node *n, const struct meta_asker *asker,
                       uint64_t index)
{
    (void)n;
    (void)asker;
    (void)index;
    ((struct seen *)arg)->removed++;
}

static struct meta *new_meta(struct seen *s)
{
    struct meta_events events = {on_created, on_repeated, on_updated, on_placed, on_deleted,
                                 on_refused, on_node,     on_removed, s};
    *s = (struct seen){0};
    return meta_new(&events);
}

static void create(struct meta *m, uint64_t index, const char *json, size_t replicas)
{
    struct stream_config c;
    struct buf b = BUF_EMPTY;
    uint64_t nodes[3] = {UINT64_MAX, 2, 3};
    struct meta_asker asker = {UINT64_MAX - 1, SLICE_LIT("_INBOX.\"x\"")};
    cr_assert_eq(stream_config_parse(&c, slice_str(json)), 0);
    meta_encode_create(&b, 1000 + (int64_t)index, &c, nodes, replicas, &asker);
    cr_assert_eq(meta_apply(m, index, buf_slice(&b)), 0);
    stream_config_close(&c);
    buf_close(&b);
}

Test(meta, names_and_subjects_are_decided_in_log_order)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    create(m, 1, "{\"name\":\"A\",\"subjects\":[\"a.>\"]}", 3);
    cr_expect_eq(seen.created, 1);
    cr_expect_eq(seen.asker, UINT64_MAX - 1);
    cr_expect_str_eq(seen.inbox, "_INBOX.\"x\"");
    const struct meta_stream *s = meta_stream_find(m, SLICE_LIT("A"));
    cr_assert_not_null(s);
    cr_expect_eq(s->peers[0].node_id, UINT64_MAX);
    cr_expect_neq(s->peers[0].raft_id, s->peers[1].raft_id);
    cr_expect_geq(s->gid, META_GID_STREAM_MIN);
    create(m, 2, "{\"name\":\"A\",\"subjects\":[\"a.>\"]}", 3);
    cr_expect_eq(seen.repeated, 1);
    create(m, 3, "{\"name\":\"A\",\"subjects\":[\"b\"]}", 3);
    cr_expect_eq(seen.err_code, 10058);
    create(m, 4, "{\"name\":\"B\",\"subjects\":[\"a.b\"]}", 1);
    cr_expect_eq(seen.err_code, 10065);
    cr_expect_eq(seen.refused, 2);
    cr_expect_eq(meta_streams_count(m), 1);
    meta_free(m);
}

Test(meta, gids_are_never_used_again)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    struct buf b = BUF_EMPTY;
    create(m, 1, "{\"name\":\"A\"}", 1);
    uint64_t gid = meta_stream_find(m, SLICE_LIT("A"))->gid;
    meta_encode_delete(&b, 5, SLICE_LIT("A"), NULL);
    cr_assert_eq(meta_apply(m, 2, buf_slice(&b)), 0);
    cr_expect_eq(seen.deleted, 1);
    create(m, 3, "{\"name\":\"A\"}", 1);
    cr_expect_gt(meta_stream_find(m, SLICE_LIT("A"))->gid, gid);
    cr_assert_eq(meta_apply(m, 4, buf_slice(&b)), 0);
    cr_assert_eq(meta_apply(m, 5, buf_slice(&b)), 0);
    cr_expect_eq(seen.err_code, 10059);
    buf_close(&b);
    meta_free(m);
}

static void put_back(void *arg, struct slice key, struct slice value)
{
    cr_assert_eq(meta_restore_item(arg, key, value), 0);
}

static void count_items(void *arg, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    (*(int *)arg)++;
}

Test(meta, a_restored_machine_is_equal_and_goes_on_alike)
{
    struct seen seen;
    struct seen seen2;
    struct meta *m = new_meta(&seen);
    struct meta *n = new_meta(&seen2);
    struct buf b = BUF_EMPTY;
    create(m, 1, "{\"name\":\"A\",\"max_msgs\":7}", 3);
    create(m, 2, "{\"name\":\"B\"}", 1);
    struct meta_node n1 = {
        .node_id = UINT64_MAX, .name = "n1", .boot_count = 4, .has_jetstream = true, .raft_id = 1};
    cr_assert_eq(tags_add(&n1.tags, SLICE_LIT("ssd")), 0);
    meta_encode_node(&b, 3000, META_MACHINE_VERSION, &n1, 0);
    cr_assert_eq(meta_apply(m, 3, buf_slice(&b)), 0);
    meta_checkpoint_all(m, put_back, n);
    cr_expect_eq(meta_restore_end(n), 0);
    cr_expect_eq(meta_hash(m), meta_hash(n));
    cr_expect_eq(meta_applied(n), 3);
    cr_expect_eq(meta_node_find(n, UINT64_MAX)->boot_count, 4);
    cr_expect(tags_eq(&meta_node_find(n, UINT64_MAX)->tags, &n1.tags));
    cr_expect_eq(meta_machine_version(n), 2);
    tags_close(&n1.tags);
    create(m, 4, "{\"name\":\"C\"}", 1);
    create(n, 4, "{\"name\":\"C\"}", 1);
    cr_expect_eq(meta_hash(m), meta_hash(n));
    int items = 0;
    meta_checkpoint(m, count_items, &items);
    cr_expect_eq(items, 5); /* A, B, C, the node, the counters. */
    items = 0;
    meta_checkpoint(m, count_items, &items);
    cr_expect_eq(items, 1);
    buf_close(&b);
    meta_free(m);
    meta_free(n);
}

Test(meta, what_is_no_entry_is_never_guessed_at)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    cr_expect_eq(meta_apply(m, 1, SLICE_LIT("")), ERR_CORRUPT);
    cr_expect_eq(meta_apply(m, 1, SLICE_LIT("{\"v\":1}")), ERR_CORRUPT);
    cr_expect_eq(meta_apply(m, 1, SLICE_LIT("{\"v\":99,\"op\":\"create\"}")), ERR_VERSION);
    cr_expect_eq(meta_apply(m, 1, SLICE_LIT("{\"v\":1,\"op\":\"create\",\"nodes\":[]}")),
                 ERR_CORRUPT);
    static const char *const unsound[] = {
        "{\"v\":1,\"op\":\"create\",\"nodes\":[\"1\"],\"config\":{}}",
        "{\"v\":1,\"op\":\"create\",\"nodes\":[\"1\"],\"config\":{\"name\":\"a.b\"}}",
        "{\"v\":1,\"op\":\"create\",\"nodes\":[\"1\",\"1\"],\"config\":{\"name\":\"A\"}}",
        "{\"v\":1,\"op\":\"create\",\"nodes\":[\"x\"],\"config\":{\"name\":\"A\"}}",
        "{\"v\":1,\"op\":\"update\",\"config\":{\"max_msgs\":1}}",
    };
    for (size_t i = 0; i < sizeof unsound / sizeof unsound[0]; i++) {
        cr_expect_eq(meta_apply(m, 1, slice_str(unsound[i])), ERR_CORRUPT, "%s", unsound[i]);
    }
    cr_expect_eq(meta_applied(m), 0);
    cr_expect_eq(meta_next_gid(m), META_GID_STREAM_MIN);
    meta_free(m);
}

#define ITEM(name, gid, peers)                                                                     \
    "{\"gid\":\"" gid "\",\"sid\":\"" gid "\",\"peers\":[" peers "],\"born\":{\"name\":\"" name    \
    "\"},\"config\":{\"name\":\"" name "\"}}"

/* Items that contradict each other, as a journal with right checksums may have them. */
Test(meta, a_checkpoint_that_contradicts_itself_is_refused)
{
    static const char counters[] = "{\"gid\":\"18\",\"raft_id\":\"1005\",\"index\":3}";
    static const struct {
        const char *key, *value;
    } cases[] = {
        {"stream/B", ITEM("A", "17", "\"1\",\"1002\"")},
        {"stream/A", ITEM("A", "16", "\"1\",\"1002\"")},
        {"stream/B", ITEM("B", "16", "\"1\",\"1002\"")},
        {"stream/B", ITEM("B", "18", "\"1\",\"1002\"")},
        {"stream/B", ITEM("B", "1", "\"1\",\"1002\"")},
        {"stream/B", ITEM("B", "17", "\"1\",\"1005\"")},
        {"stream/B", ITEM("B", "17", "\"1\",\"1002\",\"1\",\"1003\"")},
        {"stream/B", ITEM("B", "17", "\"0\",\"1002\"")},
        {"node/0", "{\"name\":\"n\"}"},
        {"node/7", "{}"},
        {"node/5", "{\"name\":\"n\"}"},
        {"counters", "{}"},
        {"counters", "{\"gid\":\"18446744073709551615\",\"raft_id\":\"1005\"}"},
        {"other", "{}"},
    };
    for (size_t i = 0; i <= sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;
        struct meta *m = new_meta(&seen);
        int rv = meta_restore_item(m, SLICE_LIT("counters"), slice_str(counters));
        cr_assert_eq(rv, 0);
        rv = meta_restore_item(m, SLICE_LIT("stream/A"),
                               SLICE_LIT(ITEM("A", "16", "\"1\",\"1000\"")));
        cr_assert_eq(rv, 0);
        rv = meta_restore_item(m, SLICE_LIT("node/5"), SLICE_LIT("{\"name\":\"five\"}"));
        cr_assert_eq(rv, 0);
        bool is_case = i < sizeof cases / sizeof cases[0];
        if (is_case) {
            rv = meta_restore_item(m, slice_str(cases[i].key), slice_str(cases[i].value));
        }
        rv = rv == 0 ? meta_restore_end(m) : rv;
        cr_expect_eq(rv, is_case ? ERR_CORRUPT : 0, "case %zu", i);
        meta_free(m);
    }
}

/* ---- Choosing nodes ---- */

static bool choose(const struct meta *m, struct meta_choice *c, const char *placement,
                   const uint64_t *nodes, size_t nodes_count, size_t wanted, char why[200])
{
    static const struct placement anywhere;
    struct meta_candidate list[8];
    struct stream_config config = {0};
    struct buf text = BUF_EMPTY;
    if (placement != NULL) {
        buf_printf(&text, "{\"name\":\"S\",\"placement\":%s}", placement);
        cr_assert_eq(stream_config_parse(&config, buf_slice(&text)), 0);
    }
    for (size_t i = 0; i < nodes_count; i++) {
        list[i] = (struct meta_candidate){nodes[i], false};
    }
    c->placement = placement == NULL ? &anywhere : &config.placement;
    c->cluster_name = "C";
    bool is_done = meta_choose(m, c, list, nodes_count, wanted);
    buf_clear(&text);
    meta_choice_print(c, &text);
    snprintf(why, 200, "%.*s", SLICE_ARG(buf_slice(&text)));
    buf_close(&text);
    meta_choice_close(c);
    stream_config_close(&config);
    return is_done;
}

Test(meta, placement_spreads_replicas_and_leaders)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    uint64_t all[3] = {UINT64_MAX, 2, 3};
    char why[200];
    struct meta_choice c = {0};
    cr_expect_not(choose(m, &c, NULL, all, 2, 3, why));
    create(m, 1, "{\"name\":\"A\"}", 3); /* Preferred: UINT64_MAX. */
    c = (struct meta_choice){0};
    cr_assert(choose(m, &c, NULL, all, 3, 3, why));
    cr_expect_neq(c.nodes[0], UINT64_MAX);
    create(m, 2, "{\"name\":\"B\"}", 1); /* One more on UINT64_MAX. */
    c = (struct meta_choice){0};
    cr_assert(choose(m, &c, NULL, all, 3, 1, why));
    cr_expect_neq(c.nodes[0], UINT64_MAX);
    meta_free(m);
}

static void tag(struct meta *m, uint64_t index, uint64_t node_id, unsigned version,
                const char *words)
{
    struct buf b = BUF_EMPTY;
    char copy[100];
    char *rest = copy;
    struct meta_node n = {.node_id = node_id, .name = "n", .has_jetstream = true, .raft_id = 1};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        cr_assert_eq(tags_add(&n.tags, slice_str(word)), 0);
    }
    meta_encode_node(&b, 1000, version, &n, 0);
    cr_assert_eq(meta_apply(m, index, buf_slice(&b)), 0);
    buf_close(&b);
    tags_close(&n.tags);
}

Test(meta, a_stream_lives_where_its_tags_are)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    uint64_t all[4] = {1, 2, 3, 4};
    static const struct {
        const char *placement;
        size_t wanted;
        const char *nodes; /* Sorted; else why not. */
    } cases[] = {
        {"{\"tags\":[\"ssd\"]}", 2, "12"},
        {"{\"tags\":[\" SSD \",\"Zone:A\"]}", 1, "1"},
        {"{\"tags\":[\"!ssd\"]}", 1, "3"},
        {"{\"tags\":[\"all\"],\"cluster\":\"C\"}", 3, "123"},
        {"{\"tags\":[\"!\"]}", 3, "123"},
        {"{\"cluster\":\"X\"}", 1, "no suitable peers for placement"},
        {"{\"tags\":[\"Ssd\"]}", 3,
         "no suitable peers for placement, exclude tag set, tags not matched ['Ssd']"},
        {"{\"tags\":[\"ssd\",\"!zone:b\"]}", 2,
         "no suitable peers for placement, exclude tag set, tags not matched ['ssd'], tags "
         "excluded "
         "['zone:b']"},
        {NULL, 4, "no suitable peers for placement, exclude tag set"},
    };
    tag(m, 1, 1, 2, "ssd,zone:a,all");
    tag(m, 2, 2, 2, "ssd,zone:b,all");
    tag(m, 3, 3, 2, "hdd,zone:b,all");
    tag(m, 4, 4, 2, "ssd,all,!JetStream");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct meta_choice c = {0};
        char text[8] = "";
        char why[200];
        bool is_done = choose(m, &c, cases[i].placement, all, 4, cases[i].wanted, why);
        for (size_t k = 0, at = 0; k < 4; k++) {
            for (size_t n = 0; n < c.count; n++) {
                if (c.nodes[n] == all[k]) {
                    text[at++] = (char)('0' + all[k]);
                }
            }
        }
        cr_expect_str_eq(is_done ? text : why, cases[i].nodes, "case %zu", i);
    }
    meta_free(m);
}

Test(meta, of_a_unique_tag_each_replica_has_another)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    uint64_t all[4] = {1, 2, 3, 4};
    char why[200];
    tag(m, 1, 1, 2, "az:a");
    tag(m, 2, 2, 2, "az:b");
    tag(m, 3, 3, 2, "az:b");
    tag(m, 4, 4, 2, "x");
    struct meta_choice c = {.unique_tag = "az:"};
    cr_assert(choose(m, &c, NULL, all, 4, 2, why));
    cr_expect(c.nodes[0] == 1 || c.nodes[1] == 1);
    c = (struct meta_choice){.unique_tag = "az:"};
    cr_expect_not(choose(m, &c, NULL, all, 4, 3, why));
    cr_expect_str_eq(why, "no suitable peers for placement, server tag not unique");
    /* What has a replica keeps it, and its tag counts. */
    c = (struct meta_choice){.unique_tag = "az:"};
    meta_choice_keep(&c, 3);
    cr_assert(choose(m, &c, NULL, all, 4, 2, why));
    cr_expect_eq(c.nodes[0], 3);
    cr_expect_eq(c.nodes[1], 1);
    /* Who asks for such a tag means it. */
    c = (struct meta_choice){.unique_tag = "az:"};
    cr_assert(choose(m, &c, "{\"tags\":[\"az:b\"]}", all, 4, 2, why));
    c = (struct meta_choice){.unique_tag = "az:"};
    cr_expect_not(choose(m, &c, "{\"tags\":[\"AZ:b\"]}", all, 4, 2, why));
    cr_expect_str_eq(why,
                     "no suitable peers for placement, server tag not unique, tags not matched "
                     "['AZ:b']");
    meta_free(m);
}

/* An older build would leave them out without a word, and place streams otherwise. */
Test(meta, what_older_builds_do_not_know_is_said_as_such)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    struct buf b = BUF_EMPTY;
    uint64_t nodes[1] = {7};
    struct stream_config c;
    tag(m, 1, 7, 1, "ssd");
    cr_expect_eq(meta_node_find(m, 7)->tags.count, 0);
    create(m, 2, "{\"name\":\"A\"}", 1);
    cr_expect_eq(meta_machine_version(m), 1);
    cr_assert_eq(
        stream_config_parse(&c, SLICE_LIT("{\"name\":\"B\",\"placement\":{\"tags\":[\"x\"]}}")), 0);
    meta_encode_create(&b, 1000, &c, nodes, 1, NULL);
    cr_expect(memcmp(b.ptr, "{\"v\":2,", 7) == 0);
    cr_assert_eq(meta_apply(m, 3, buf_slice(&b)), 0);
    cr_expect_eq(meta_machine_version(m), 2);
    cr_expect_eq(meta_restore_item(m, SLICE_LIT("counters"), SLICE_LIT("{\"version\":99}")),
                 ERR_VERSION);
    stream_config_close(&c);
    buf_close(&b);
    meta_free(m);
}

Test(tags, are_kept_as_the_reference_keeps_them)
{
    struct tag_list list = {0};
    struct tag_list copy = {0};
    char name[TAG_BYTES_MAX + 2];
    cr_expect_eq(tags_add(&list, SLICE_LIT(" Zone:A\t")), 0);
    cr_expect_eq(tags_add(&list, SLICE_LIT("zone:a")), 0);
    cr_expect_eq(tags_add(&list, SLICE_LIT("  ")), 0);
    cr_expect_eq(list.count, 1);
    cr_expect_str_eq(list.items[0], "zone:a");
    cr_expect(tags_have(&list, SLICE_LIT("ZONE:a ")));
    cr_expect_not(tags_have(&list, SLICE_LIT("zone:")));
    cr_expect_eq(tags_add(&list, SLICE_LIT("\xff")), ERR_INVALID);
    cr_expect_eq(tags_add(&list, SLICE_LIT("a\0b")), ERR_INVALID);
    memset(name, 'x', sizeof name);
    cr_expect_eq(tags_add(&list, slice_of(name, TAG_BYTES_MAX + 1)), ERR_TOOBIG);
    cr_expect_eq(tags_add(&list, slice_of(name, TAG_BYTES_MAX)), 0);
    for (size_t i = list.count; i < TAGS_MAX; i++) {
        cr_assert_eq(tags_add(&list, slice_of(name, i)), 0);
    }
    cr_expect_eq(tags_add(&list, SLICE_LIT("more")), ERR_FULL);
    for (size_t i = 0; i < list.count; i++) {
        cr_assert_eq(tags_add(&copy, slice_str(list.items[i])), 0);
    }
    cr_expect(tags_eq(&copy, &list));
    tags_close(&list);
    cr_expect_not(tags_eq(&copy, &list));
    tags_close(&copy);
}

static void place(struct meta *m, uint64_t index, const uint64_t *nodes, size_t count)
{
    struct buf b = BUF_EMPTY;
    meta_encode_place(&b, 1000 + (int64_t)index, SLICE_LIT("A"), nodes, count, NULL);
    cr_assert_eq(meta_apply(m, index, buf_slice(&b)), 0);
    buf_close(&b);
}

static void tell(struct meta *m, uint64_t index, uint64_t conf, const struct meta_peer *members,
                 size_t count)
{
    const struct meta_stream *s = meta_stream_find(m, SLICE_LIT("A"));
    struct buf b = BUF_EMPTY;
    meta_encode_members(&b, 1000, s->gid, s->placed, conf, members, count);
    cr_assert_eq(meta_apply(m, index, buf_slice(&b)), 0);
    buf_close(&b);
}

Test(meta, a_peer_that_left_is_remembered_until_it_is_no_member)
{
    struct seen seen;
    struct seen seen2;
    struct meta *m = new_meta(&seen);
    struct meta *n = new_meta(&seen2);
    create(m, 1, "{\"name\":\"A\"}", 3);
    const struct meta_stream *s = meta_stream_find(m, SLICE_LIT("A"));
    uint64_t first = s->peers[2].raft_id;
    place(m, 2, (const uint64_t[]){UINT64_MAX, 2, 4}, 3);
    cr_expect_eq(seen.placed, 1);
    cr_assert_eq(s->old_count, 1);
    cr_expect_eq(s->old[0].raft_id, first);
    cr_expect(meta_is_member(s, first));
    cr_expect_gt(meta_raft_id_on(s, 4), first);
    cr_expect_eq(s->born_count, 3);
    cr_expect_eq(s->born[2].raft_id, first);
    /* Still a member. */
    const struct meta_peer both[] = {s->peers[0], s->peers[1], s->peers[2], s->old[0]};
    tell(m, 3, 10, both, 4);
    cr_expect(meta_is_member(s, first));
    /* Its node cannot have another one meanwhile, nor the same one again. */
    place(m, 4, (const uint64_t[]){UINT64_MAX, 2, 3}, 3);
    cr_expect_eq(seen.refused, 1);
    cr_expect_eq(meta_raft_id_on(s, 3), 0);
    meta_checkpoint_all(m, put_back, n);
    cr_expect_eq(meta_hash(m), meta_hash(n));
    /* It is none any more; a later newcomer on its node gets another id. */
    tell(m, 5, 11, s->peers, 3);
    cr_expect_not(meta_is_member(s, first));
    cr_expect_eq(s->reported, 11);
    place(m, 6, (const uint64_t[]){UINT64_MAX, 2, 3}, 3);
    cr_expect_gt(meta_raft_id_on(s, 3), first);
    meta_free(m);
    meta_free(n);
}

Test(meta, what_a_leader_tells_of_an_older_placement_counts_for_nothing)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    struct buf b = BUF_EMPTY;
    create(m, 1, "{\"name\":\"A\"}", 3);
    const struct meta_stream *s = meta_stream_find(m, SLICE_LIT("A"));
    place(m, 2, (const uint64_t[]){UINT64_MAX, 2, 4}, 3);
    meta_encode_members(&b, 1000, s->gid, s->placed, 20, s->peers, 3);
    place(m, 3, (const uint64_t[]){UINT64_MAX, 2, 5}, 3);
    cr_assert_eq(s->old_count, 2);
    cr_assert_eq(meta_apply(m, 4, buf_slice(&b)), 0);
    cr_expect_eq(s->old_count, 2);
    buf_close(&b);
    meta_free(m);
}

Test(meta, a_lost_replica_gets_a_new_id_and_never_its_old_one)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    struct buf b = BUF_EMPTY;
    create(m, 1, "{\"name\":\"A\"}", 3);
    const struct meta_stream *s = meta_stream_find(m, SLICE_LIT("A"));
    uint64_t lost = s->peers[1].raft_id;
    meta_encode_lost(&b, 1000, s->gid, lost);
    cr_assert_eq(meta_apply(m, 2, buf_slice(&b)), 0);
    cr_expect_eq(seen.placed, 1);
    uint64_t next = meta_raft_id_on(s, 2);
    cr_expect_gt(next, lost);
    cr_assert_eq(meta_apply(m, 3, buf_slice(&b)), 0); /* Said twice. */
    cr_expect_eq(meta_raft_id_on(s, 2), next);
    cr_expect_not(meta_is_leaving(s, 2)); /* Nothing lives there that could be in the way. */
    place(m, 4, (const uint64_t[]){UINT64_MAX, 3}, 2);
    tell(m, 5, 9, s->peers, 2);
    place(m, 6, (const uint64_t[]){UINT64_MAX, 3, 2}, 3);
    cr_expect_gt(meta_raft_id_on(s, 2), next);
    meta_free(m);
    /* Of one replica nothing is left to replace it from. */
    m = new_meta(&seen);
    create(m, 1, "{\"name\":\"A\"}", 1);
    cr_assert_eq(meta_apply(m, 2, buf_slice(&b)), 0);
    cr_expect_eq(seen.placed, 0);
    buf_close(&b);
    meta_free(m);
}

Test(meta, an_update_may_bring_another_number_of_replicas)
{
    struct seen seen;
    struct stream_config c;
    struct meta *m = new_meta(&seen);
    struct buf b = BUF_EMPTY;
    create(m, 1, "{\"name\":\"A\"}", 1);
    const struct meta_stream *s = meta_stream_find(m, SLICE_LIT("A"));
    cr_assert_eq(stream_config_parse(&c, SLICE_LIT("{\"name\":\"A\",\"num_replicas\":3}")), 0);
    meta_encode_update(&b, 1000, &c, (const uint64_t[]){UINT64_MAX, 2, 3}, 3, NULL);
    cr_assert_eq(meta_apply(m, 2, buf_slice(&b)), 0);
    cr_expect_eq(seen.placed, 1);
    cr_expect_eq(seen.updated, 1);
    cr_expect_eq(s->peers_count, 3);
    cr_expect_eq(s->config.replicas_count, 3);
    cr_expect_eq(s->peers[0].raft_id, s->born[0].raft_id);
    cr_expect_eq(s->old_count, 0);
    stream_config_close(&c);
    buf_close(&b);
    meta_free(m);
}

static void node(struct meta *m, uint64_t index, uint64_t node_id, char *name, uint64_t replaces)
{
    struct buf b = BUF_EMPTY;
    struct meta_node n = {.node_id = node_id, .name = name, .boot_count = 1, .has_jetstream = true};
    meta_encode_node(&b, 1000, META_MACHINE_VERSION, &n, replaces);
    cr_assert_eq(meta_apply(m, index, buf_slice(&b)), 0);
    buf_close(&b);
}

/* The disk of node 2 is lost; it is back as node 9. */
Test(meta, a_node_that_replaces_another_has_its_replicas_under_new_ids)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    create(m, 1, "{\"name\":\"A\",\"subjects\":[\"a\"]}", 3);
    create(m, 2, "{\"name\":\"B\",\"subjects\":[\"b\"]}", 3);
    node(m, 3, 2, "n2", 0);
    const struct meta_stream *a = meta_stream_find(m, SLICE_LIT("A"));
    const struct meta_stream *b = meta_stream_find(m, SLICE_LIT("B"));
    uint64_t old = meta_raft_id_on(a, 2);
    node(m, 4, 9, "n2", 2);
    cr_expect_eq(seen.removed, 1);
    cr_expect_eq(seen.placed, 2);
    cr_expect(meta_node_find(m, 2)->is_removed);
    cr_expect_neq(meta_node_find(m, 9)->raft_id, meta_node_find(m, 2)->raft_id);
    cr_expect_eq(meta_raft_id_on(a, 2), 0);
    cr_expect_gt(meta_raft_id_on(a, 9), old);
    cr_expect_neq(meta_raft_id_on(a, 9), meta_raft_id_on(b, 9));
    cr_expect(meta_is_member(a, old));
    node(m, 5, 9, "n2", 2); /* Said twice. */
    cr_expect_eq(seen.placed, 2);
    meta_free(m);
}

Test(meta, a_server_is_removed_once)
{
    struct seen seen;
    struct meta *m = new_meta(&seen);
    struct buf b = BUF_EMPTY;
    node(m, 1, 7, "n7", 0);
    meta_encode_forget(&b, 1000, 7, NULL);
    cr_assert_eq(meta_apply(m, 2, buf_slice(&b)), 0);
    cr_expect_eq(seen.removed, 1);
    cr_assert_eq(meta_apply(m, 3, buf_slice(&b)), 0);
    cr_expect_eq(seen.removed, 1);
    cr_expect_eq(seen.err_code, 10044);
    node(m, 4, 7, "n7", 0); /* It is still there, and says so. */
    cr_expect(meta_node_find(m, 7)->is_removed);
    buf_close(&b);
    meta_free(m);
}
