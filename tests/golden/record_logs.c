/* Records golden logs: record_logs FOLDER writes NAME_vN.log for each recipe below, unless it is
 * there already: what was recorded is never recorded anew.
 *
 * Most entries are drawn from a fixed seed, with an eye on the state, so that acks meet what was
 * delivered and redeliveries what is due; each recipe has a configuration that takes other ways
 * through apply. What is rare is written out. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "broker/api_error.h"
#include "broker/consumer.h"
#include "tests/golden/golden_log.h"

#define MS 1000000ll
#define SECOND (1000 * MS)
#define CONSUMERS_MAX 8
#define NAMES_MAX 6 /* The last configurations are others for the names before. */
#define ORIGINS 3

struct recorder {
    struct stream *s;
    struct stream_effects e;
    struct entry_builder b;
    struct buf out;
    uint64_t index;
    uint64_t term;
    int64_t now_ns;
    uint64_t seed;
    uint64_t last_n[ORIGINS];
    uint64_t origins[ORIGINS];
    uint64_t config_version;
};

/* Numbers in [0, below). splitmix64. */
static uint64_t draw(struct recorder *w, uint64_t below)
{
    uint64_t z = w->seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

static void begin(struct recorder *w)
{
    entry_begin(&w->b, stream_machine_version(w->s));
}

static void end(struct recorder *w)
{
    struct golden_step step = {.term = w->term, .entry = entry_end(&w->b, w->now_ns)};
    if (stream_step(w->s, ++w->index, step.term, step.entry, &w->e) != 0) {
        fprintf(stderr, "entry %llu cannot be applied\n", (unsigned long long)w->index);
        exit(1);
    }
    stream_check(w->s);
    step.state_hash = stream_hash(w->s);
    step.effects_hash = golden_effects_hash(&w->e);
    golden_log_add(&w->out, &step);
}

/* ---- Entries drawn ---- */

static void draw_options(struct recorder *w, struct publish_message *m, char *text, size_t max)
{
    uint64_t last = stream_last_seq(w->s);
    uint64_t off = draw(w, 4) == 0; /* Now and then an expectation fails. */
    switch (draw(w, 12)) {
    case 0:
    case 1:
    case 2:
        (void)snprintf(text, max, "id-%llu", (unsigned long long)draw(w, 60));
        m->msg_id = slice_str(text);
        m->options = PUBLISH_HAS(PUBLISH_MSG_ID);
        break;
    case 3:
        m->expect_last_seq = last + off;
        m->options = PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ);
        break;
    case 4:
        m->expect_last_subject_seq = stream_last_by_subject(w->s, m->subject) + off;
        m->options = PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ);
        break;
    case 5:
        m->expect_subject = SLICE_LIT("a.*");
        m->expect_last_subject_seq = last + off;
        m->options =
            PUBLISH_HAS(PUBLISH_EXPECT_LAST_SUBJECT_SEQ) | PUBLISH_HAS(PUBLISH_EXPECT_SUBJECT);
        break;
    case 6:
        m->expect_stream = off ? SLICE_LIT("OTHER") : SLICE_LIT("G");
        m->options = PUBLISH_HAS(PUBLISH_EXPECT_STREAM);
        break;
    case 7:
        (void)snprintf(text, max, "id-%llu", (unsigned long long)draw(w, 60));
        m->expect_last_msg_id = slice_str(text);
        m->options = PUBLISH_HAS(PUBLISH_EXPECT_LAST_MSG_ID);
        break;
    default:
        break;
    }
    if (draw(w, 40) == 0) {
        m->rollup = draw(w, 5) == 0 ? ROLLUP_ALL : ROLLUP_SUBJECT;
        m->options |= PUBLISH_HAS(PUBLISH_ROLLUP);
    }
}

static void draw_message(struct recorder *w)
{
    char subject[24], text[24];
    static const char bytes[] = "the quick brown fox jumps over the lazy dog, again and again";
    (void)snprintf(subject, sizeof subject, draw(w, 4) == 0 ? "b.%llu.x" : "a.%llu",
                   (unsigned long long)draw(w, 9));
    struct publish_message m = {.subject = slice_str(subject),
                                .payload = slice_of(bytes, draw(w, sizeof bytes))};
    if (draw(w, 5) == 0) {
        m.header = SLICE_LIT("NATS/1.0\r\nK: v\r\n\r\n");
    }
    draw_options(w, &m, text, sizeof text);
    if (draw(w, 40) == 0) {
        m = (struct publish_message){.refused_code = API_ERROR_STREAM_MESSAGE_EXCEEDS_MAXIMUM,
                                     .refused_text = SLICE_LIT("refused")};
    }
    uint64_t o = draw(w, ORIGINS + 1);
    if (o == ORIGINS) {
        entry_publish(&w->b, 0, 0, 0, &m);
        return;
    }
    uint64_t n = w->last_n[o] + 1;
    switch (draw(w, 30)) {
    case 0: /* Sent again. */
        n = w->last_n[o] > 0 ? 1 + draw(w, w->last_n[o]) : 1;
        break;
    case 1: /* Something is missing before it. */
        n += 1 + draw(w, 3);
        break;
    case 2: /* A node that started anew. */
        if (draw(w, 10) == 0) {
            w->origins[o]++;
            n = 1;
        }
        break;
    default:
        break;
    }
    w->last_n[o] = n == 1 || n == w->last_n[o] + 1 ? n : w->last_n[o];
    entry_publish(&w->b, o + 1, w->origins[o], n, &m);
}

static const char *const consumer_configs[CONSUMERS_MAX] = {
    "{\"name\":\"c0\",\"durable_name\":\"c0\",\"ack_policy\":\"explicit\",\"max_deliver\":2,"
    "\"ack_wait\":300000000,\"filter_subject\":\"a.*\"}",
    "{\"name\":\"c1\",\"durable_name\":\"c1\",\"ack_policy\":\"explicit\",\"max_deliver\":4,"
    "\"backoff\":[1000000000,3000000000],\"filter_subject\":\"b.>\"}",
    "{\"name\":\"c2\",\"durable_name\":\"c2\",\"ack_policy\":\"all\",\"ack_wait\":4000000000}",
    "{\"name\":\"c3\",\"durable_name\":\"c3\",\"ack_policy\":\"none\",\"deliver_policy\":\"new\"}",
    "{\"name\":\"c4\",\"durable_name\":\"c4\",\"ack_policy\":\"explicit\",\"deliver_policy\":"
    "\"last_per_subject\",\"filter_subjects\":[\"a.1\",\"a.2\",\"b.*.x\"]}",
    "{\"name\":\"c5\",\"durable_name\":\"c5\",\"ack_policy\":\"explicit\",\"deliver_policy\":"
    "\"by_start_sequence\",\"opt_start_seq\":40,\"max_ack_pending\":8}",
    "{\"name\":\"c0\",\"durable_name\":\"c0\",\"ack_policy\":\"explicit\",\"max_deliver\":5,"
    "\"ack_wait\":2000000000,\"filter_subject\":\"a.2\"}",
    "{\"name\":\"c2\",\"durable_name\":\"c2\",\"ack_policy\":\"explicit\",\"deliver_policy\":"
    "\"last\"}",
};

static struct slice consumer_name(uint64_t i)
{
    static const char *const names[CONSUMERS_MAX] = {"c0", "c1", "c2", "c3",
                                                     "c4", "c5", "c0", "c2"};
    return slice_str(names[i]);
}

static void draw_delivery(struct recorder *w, struct consumer *c)
{
    const struct msg_index *x = stream_index(w->s);
    struct progress_item item = {.kind = PROGRESS_DELIVER,
                                 .count = 1,
                                 .node = 1 + draw(w, 3),
                                 .text = SLICE_LIT("_INBOX.there")};
    if (c->queue.count > 0 && draw(w, 2) == 0) {
        item.seq = ring_at(&c->queue, 0);
        item.delay_ns = 2 * (int64_t)draw(w, 1000);
        entry_progress(&w->b, c->id, &item);
        return;
    }
    uint64_t budget = UINT64_MAX;
    item.consumer_seq = c->delivered.stream_seq;
    item.delay_ns = 1 + 2 * (int64_t)draw(w, 1000);
    item.seq = consumer_seek(c, x, c->delivered.stream_seq, &budget);
    uint64_t max = 1 + draw(w, 5);
    while (item.seq != 0 && item.count < max &&
           consumer_seek(c, x, item.seq + item.count - 1, &budget) == item.seq + item.count) {
        item.count++;
    }
    if (item.seq != 0) {
        entry_progress(&w->b, c->id, &item);
    }
}

static void draw_answer(struct recorder *w, struct consumer *c)
{
    static const enum progress_kind kinds[] = {PROGRESS_ACK,    PROGRESS_ACK,  PROGRESS_ACK,
                                               PROGRESS_ACK,    PROGRESS_NAK,  PROGRESS_WPI,
                                               PROGRESS_RETURN, PROGRESS_TERM, PROGRESS_CONFIRM};
    struct pending_entry *first = pending_head(&c->pending);
    if (first == NULL) {
        return;
    }
    uint64_t upto = c->delivered.stream_seq;
    struct progress_item item = {.kind = kinds[draw(w, sizeof kinds / sizeof kinds[0])],
                                 .seq = first->seq + draw(w, upto - first->seq + 1),
                                 .count = 1,
                                 .node = 1};
    if (item.kind == PROGRESS_ACK) {
        item.count = draw(w, 4) == 0 ? 1 + draw(w, 4) : 1;
    } else if (item.kind == PROGRESS_NAK) {
        item.delay_ns = draw(w, 2) == 0 ? 0 : (int64_t)draw(w, 4) * SECOND;
    } else if (item.kind == PROGRESS_TERM) {
        item.text = SLICE_LIT("no use");
    } else if (item.kind == PROGRESS_CONFIRM) {
        item.text = SLICE_LIT("_INBOX.confirm");
    }
    entry_progress(&w->b, c->id, &item);
}

static void draw_progress(struct recorder *w)
{
    struct consumer *c =
        consumers_by_name(stream_get_consumers(w->s), consumer_name(draw(w, NAMES_MAX)));
    if (c == NULL) {
        return;
    }
    if (c->config.ack_policy == ACK_NONE) {
        uint64_t budget = UINT64_MAX;
        uint64_t seq = consumer_seek(c, stream_index(w->s), c->delivered.stream_seq, &budget);
        struct progress_item item = {.kind = PROGRESS_POSITION,
                                     .seq = seq,
                                     .count = 1,
                                     .consumer_seq = c->delivered.consumer_seq + 1};
        if (seq != 0) {
            entry_progress(&w->b, c->id, &item);
        }
    } else if (draw(w, 2) == 0) {
        draw_delivery(w, c);
    } else {
        draw_answer(w, c);
    }
}

static void draw_admin(struct recorder *w)
{
    uint64_t last = stream_last_seq(w->s);
    uint64_t which = draw(w, CONSUMERS_MAX);
    switch (draw(w, 12)) {
    case 0:
    case 1:
    case 2:
        entry_consumer_set(&w->b, 1, consumer_name(which), slice_str(consumer_configs[which]));
        break;
    case 3:
        if (draw(w, 3) == 0) {
            entry_consumer_delete(&w->b, 2, consumer_name(which));
        }
        break;
    case 4:
        entry_purge(&w->b, 3, SLICE_LIT("b.*.x"), 0, draw(w, 4));
        break;
    case 5:
        entry_purge(&w->b, 4, SLICE_EMPTY, last > 60 ? last - 60 : 1, 0);
        break;
    case 6:
        entry_purge(&w->b, 5, draw(w, 2) == 0 ? SLICE_LIT("a.3") : SLICE_EMPTY, 0, 50);
        break;
    case 7:
    case 8:
        entry_delete_msg(&w->b, 6, last > 40 ? last - draw(w, 40) : 1);
        break;
    case 9:
        w->term++;
        entry_lead(&w->b, 1 + draw(w, 3), stream_machine_version(w->s));
        break;
    case 10:
        entry_digest(&w->b);
        break;
    default:
        entry_clock(&w->b);
        entry_job_step(&w->b);
        break;
    }
}

static void draw_entries(struct recorder *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        /* Now and then whole tenths of seconds, so that ages and deadlines end exactly. */
        w->now_ns += draw(w, 3) == 0 ? 100 * MS - w->now_ns % (100 * MS) : 0;
        w->now_ns +=
            (int64_t)(draw(w, 12) == 0 ? draw(w, 3 * SECOND) : draw(w, 2) * draw(w, 20 * MS));
        begin(w);
        for (uint64_t ops = 1 + draw(w, 3); ops > 0; ops--) {
            uint64_t what = draw(w, 10);
            if (what < 5) {
                draw_message(w);
            } else if (what < 9 && stream_get_consumers(w->s) != NULL) {
                draw_progress(w);
            } else {
                draw_admin(w);
            }
        }
        end(w);
    }
}

/* ---- Entries written out ---- */

static void set_config(struct recorder *w, const char *config)
{
    begin(w);
    entry_config(&w->b, 7, slice_str(config), ++w->config_version);
    end(w);
}

static void set_consumers(struct recorder *w)
{
    begin(w);
    for (uint64_t i = 0; i < NAMES_MAX; i++) {
        entry_consumer_set(&w->b, 1, consumer_name(i), slice_str(consumer_configs[i]));
    }
    end(w);
}

/* What comes at the end of each log. */
static void finish(struct recorder *w)
{
    begin(w);
    entry_version(&w->b, stream_machine_version(w->s));
    entry_digest(&w->b);
    end(w);
    w->now_ns += 3601 * SECOND; /* Old incarnations are forgotten, windows and deadlines end. */
    draw_entries(w, 20);
    begin(w);
    entry_rebase_time(&w->b, w->now_ns - 60 * SECOND);
    end(w);
    w->now_ns -= 60 * SECOND;
    draw_entries(w, 20);
    begin(w);
    entry_seal(&w->b, 8);
    end(w);
    draw_entries(w, 10);
}

static void all_sorts(struct recorder *w)
{
    draw_entries(w, 60);
    set_consumers(w);
    draw_entries(w, 300);
    finish(w);
}

/* More than one step of a job may take. */
static void jobs(struct recorder *w)
{
    set_consumers(w);
    for (unsigned i = 0; i < 6; i++) {
        begin(w);
        for (unsigned k = 0; k < 2500; k++) {
            struct publish_message m = {.subject =
                                            k % 16 == 0 ? SLICE_LIT("b.1.x") : SLICE_LIT("a.1")};
            entry_publish(&w->b, 1, w->origins[0], ++w->last_n[0], &m);
        }
        end(w);
    }
    begin(w); /* Answers of so long ago are forgotten, or just not yet. */
    for (uint64_t back = STREAM_LANE_ANSWERS - 2; back < STREAM_LANE_ANSWERS + 2; back++) {
        struct publish_message m = {.subject = SLICE_LIT("a.1")};
        entry_publish(&w->b, 1, w->origins[0], w->last_n[0] - back, &m);
    }
    entry_purge(&w->b, 1, SLICE_LIT("a.*"), 0, 1000);
    end(w);
    draw_entries(w, 5);
    while (stream_wants_job_step(w->s)) {
        begin(w);
        entry_job_step(&w->b);
        end(w);
    }
    set_config(w, "{\"name\":\"G\",\"subjects\":[\"a.*\",\"b.>\"],\"max_msgs_per_subject\":200,"
                  "\"retention\":\"limits\"}");
    draw_entries(w, 5);
    set_config(w, "{\"name\":\"G\",\"subjects\":[\"a.*\",\"b.>\"],\"max_msgs\":100,"
                  "\"duplicate_window\":0}");
    while (stream_wants_job_step(w->s)) {
        begin(w);
        entry_job_step(&w->b);
        end(w);
    }
    draw_entries(w, 20);
    begin(w);
    entry_purge(&w->b, 1, SLICE_EMPTY, 0, 0);
    end(w);
    finish(w);
}

/* Configurations that come one after the other, and what is refused by them. */
static void config_changes(struct recorder *w)
{
    static const char *const configs[] = {
        "{\"name\":\"G\",\"subjects\":[\"a.*\"],\"deny_delete\":true,\"deny_purge\":true}",
        "{\"name\":\"G\",\"subjects\":[\"b.>\"],\"max_age\":2000000000,\"max_bytes\":3000}",
        "{\"name\":\"G\",\"subjects\":[\"a.*\",\"b.>\"],\"max_msgs\":20,\"discard\":\"new\","
        "\"max_bytes\":1500,\"metadata\":{\"k\":\"v\"}}",
        "{\"name\":\"G\",\"subjects\":[\"a.*\",\"b.>\"],\"max_msgs_per_subject\":3,"
        "\"duplicate_window\":500000000,\"allow_rollup_hdrs\":true}",
    };
    draw_entries(w, 40);
    begin(w);
    entry_consumer_set(
        &w->b, 1, SLICE_LIT("late"),
        SLICE_LIT("{\"name\":\"late\",\"ack_policy\":\"explicit\",\"deliver_policy\":"
                  "\"by_start_time\",\"opt_start_time\":"
                  "\"1970-01-01T00:16:41Z\"}"));
    end(w);
    set_consumers(w);
    for (size_t i = 0; i < 2 * sizeof configs / sizeof configs[0]; i++) {
        set_config(w, configs[i / 2]);
        draw_entries(w, 25);
        begin(w); /* Of a leader that had not heard of the newer one. */
        entry_config(&w->b, 7, slice_str(configs[0]), w->config_version - 1);
        entry_config(&w->b, 7, slice_str(configs[(i + 1) / 2 % 4]), 0);
        end(w);
        draw_entries(w, 25);
    }
    finish(w);
}

/* All nodes are down, and time is not known at first. */
static void shifts_under(struct recorder *w, uint32_t version)
{
    begin(w);
    entry_version(&w->b, version);
    end(w);
    set_consumers(w);
    for (unsigned i = 0; i < 40; i++) {
        int64_t lag_ns = (int64_t)(1 + draw(w, 30)) * SECOND;
        begin(w);
        entry_time_unsure(&w->b, draw(w, 3) == 0 ? 0 : lag_ns);
        end(w);
        draw_entries(w, (unsigned)draw(w, 10));
        if (draw(w, 3) != 0) {
            begin(w);
            entry_time_sure(&w->b, draw(w, 4) == 0 ? 0 : lag_ns);
            end(w);
            draw_entries(w, (unsigned)draw(w, 4));
            w->now_ns += draw(w, 5) == 0 ? 0 : lag_ns;
        }
        draw_entries(w, (unsigned)draw(w, 10));
    }
    finish(w);
}

static void shifts(struct recorder *w)
{
    shifts_under(w, ENTRY_MACHINE_VERSION_SHIFTS);
}

/* Deadlines that begin then are put right, too. */
static void deadlines(struct recorder *w)
{
    shifts_under(w, ENTRY_MACHINE_VERSION_DEADLINES);
}

/* ---- Recipes ---- */

#define COMMON "\"name\":\"G\",\"subjects\":[\"a.*\",\"b.>\"]"

static const struct recipe {
    const char *name;
    const char *config;
    void (*record)(struct recorder *w);
    uint32_t version; /* That brought it; 0: the first. */
} recipes[] = {
    {"limits",
     "{" COMMON ",\"max_msgs_per_subject\":12,\"max_msgs\":90,\"max_bytes\":9000,"
     "\"duplicate_window\":2000000000,\"allow_rollup_hdrs\":true}",
     all_sorts, 0},
    {"discard_new",
     "{" COMMON ",\"discard\":\"new\",\"discard_new_per_subject\":true,\"max_msgs_per_subject\":10,"
     "\"max_msgs\":70,\"max_bytes\":7000,\"duplicate_window\":2000000000,\"max_msg_size\":60,"
     "\"allow_rollup_hdrs\":true}",
     all_sorts, 0},
    {"age",
     "{" COMMON ",\"max_age\":3000000000,\"duplicate_window\":1000000000,\"max_consumers\":4,"
     "\"allow_rollup_hdrs\":true}",
     all_sorts, 0},
    {"workqueue", "{" COMMON ",\"retention\":\"workqueue\",\"duplicate_window\":2000000000}",
     all_sorts, 0},
    {"interest",
     "{" COMMON ",\"retention\":\"interest\",\"max_msgs\":80,\"duplicate_window\":2000000000}",
     all_sorts, 0},
    {"shifts", "{" COMMON ",\"max_age\":20000000000,\"duplicate_window\":5000000000}", shifts, 2},
    {"deadlines", "{" COMMON ",\"max_age\":200000000000,\"duplicate_window\":5000000000}",
     deadlines, 3},
    {"transform",
     "{" COMMON ",\"max_msgs_per_subject\":12,\"duplicate_window\":2000000000,"
     "\"allow_rollup_hdrs\":true,\"subject_transform\":{\"src\":\"a.*\",\"dest\":"
     "\"t.{{partition(3,1)}}.{{left(1,1)}}.{{random(4)}}\"}}",
     all_sorts, 0},
    {"config", "{" COMMON ",\"first_seq\":100}", config_changes, 0},
    {"jobs", "{" COMMON ",\"duplicate_window\":2000000000}", jobs, 0},
};

static void record(const struct recipe *recipe, const char *path)
{
    struct recorder w = {.term = 1, .now_ns = 1000 * SECOND, .seed = recipe->name[0]};
    for (size_t i = 0; i < ORIGINS; i++) {
        w.origins[i] = 100;
    }
    golden_log_begin(&w.out, w.now_ns, slice_str(recipe->config));
    if (stream_new(slice_str(recipe->config), w.now_ns, &consumer_ops, &w.s) != 0) {
        fprintf(stderr, "%s: bad configuration\n", recipe->name);
        exit(1);
    }
    recipe->record(&w);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(w.out.ptr, w.out.len, 1, f) != 1 || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    printf("%s: %llu entries, %zu bytes\n", path, (unsigned long long)w.index, w.out.len);
    stream_free(w.s);
    stream_effects_close(&w.e);
    entry_close(&w.b);
    buf_close(&w.out);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: record_logs FOLDER\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s_v%u.log", argv[1], recipes[i].name,
                       recipes[i].version == 0 ? 1 : recipes[i].version);
        if (access(path, F_OK) == 0) {
            printf("%s is there already\n", path);
        } else {
            record(&recipes[i], path);
        }
    }
    return 0;
}
