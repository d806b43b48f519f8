/* Golden logs give the same states for ever: all of tests/golden/logs, and tests/data/stream_v1.log
 * (u32 length and entry bytes each), which is older and has one hash. A new machine version adds
 * files and keeps the old ones. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/consumer.h"
#include "tests/golden/golden_log.h"
#include "tests/unit/stream_world.h"

#define GOLDEN_HASH 0x4f66e6790dd037aull
#define OP_TYPES_MAX 64u
#define OPTIONS_MAX 32u
#include "tests/unit/golden_file.h"

#define WHAT_TO_DO                                                                                 \
    "what apply does to entries of an old machine version has changed: replicas of this build "    \
    "and "                                                                                         \
    "of older ones would differ. Keep the old rules for the old version and put the new ones "     \
    "under a new one (ENTRY_MACHINE_VERSION in broker/entry.h; tests/golden/README.md)"

/* Else two builds that found the same stream would begin with different rules. */
Test(stream_golden, a_new_stream_begins_with_the_oldest_version)
{
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"k.*\"]}");
    cr_expect_eq(stream_machine_version(w.s), ENTRY_MACHINE_VERSION_FIRST);
    world_close(&w);
}

Test(stream_golden, version_1_gives_its_hash)
{
    struct slice file = golden_read(WEIR_SOURCE_DIR "/tests/data/stream_v1.log");
    struct world w;
    world_open(&w, "{\"name\":\"S\",\"subjects\":[\"k.*\"],\"max_msgs_per_subject\":3,"
                   "\"duplicate_window\":2000000000,\"allow_rollup_hdrs\":true}");
    struct reader r = reader_of(file);
    while (r.len > 0) {
        struct slice entry = reader_bytes(&r, reader_u32(&r));
        cr_assert_not(r.failed);
        cr_assert_eq(stream_step(w.s, ++w.index, 1, entry, &w.e), 0);
    }
    stream_check(w.s);
    cr_expect_eq(w.index, 43u);
    cr_expect_eq(stream_hash(w.s), GOLDEN_HASH, "0x%llxull", (unsigned long long)stream_hash(w.s));
    world_close(&w);
    free((void *)file.ptr);
}

/* ---- All of tests/golden/logs ---- */

struct seen {
    uint64_t ops;     /* Bit of each op, */
    uint64_t options; /* of each option of a message, */
    uint64_t kinds;   /* and of each kind of progress. */
    bool has_refused;
    bool has_lane;
};

static void see(struct seen *seen, struct slice entry)
{
    struct entry_reader r;
    struct op op;
    cr_assert_eq(entry_open(&r, entry), 0);
    while (entry_next(&r, &op) == 1) {
        seen->ops |= 1ull << op.type;
        struct publish_message m;
        while (op.type == OP_PUBLISH && entry_next_message(&op.u.publish, &m)) {
            seen->options |= m.options;
            seen->has_refused = seen->has_refused || m.refused_code != 0;
            seen->has_lane = seen->has_lane || op.u.publish.origin != 0;
        }
        struct progress_item item;
        while (op.type == OP_CONSUMER_PROGRESS && entry_next_item(&op.u.progress, &item)) {
            seen->kinds |= 1ull << item.kind;
        }
    }
}

static void replay(const char *path, struct seen *seen)
{
    struct slice file = golden_read(path);
    struct golden_log log;
    struct golden_step step;
    struct stream *s;
    struct stream_effects e = {0};
    uint64_t index = 0;
    int rv;
    cr_assert(golden_log_open(&log, file), "%s", path);
    cr_assert_eq(stream_new(log.config, log.created_ns, &consumer_ops, &s), 0, "%s", path);
    while ((rv = golden_log_next(&log, &step)) > 0) {
        see(seen, step.entry);
        rv = stream_step(s, ++index, step.term, step.entry, &e);
        cr_assert_eq(rv, 0, "%s, entry %llu is refused (%d): %s", path, (unsigned long long)index,
                     rv, WHAT_TO_DO);
        cr_assert_eq(stream_hash(s), step.state_hash, "%s, entry %llu gives another state: %s",
                     path, (unsigned long long)index, WHAT_TO_DO);
        cr_assert_eq(golden_effects_hash(&e), step.effects_hash,
                     "%s, entry %llu stores or removes something else: %s", path,
                     (unsigned long long)index, WHAT_TO_DO);
    }
    cr_assert_eq(rv, 0, "%s is cut off", path);
    cr_assert_gt(index, 0u, "%s", path);
    stream_free(s);
    stream_effects_close(&e);
    free((void *)file.ptr);
}

/* Is op @type one that this build decodes? What lacks its fields is invalid, not unsupported. */
static bool is_op_known(unsigned type)
{
    uint8_t entry[] = {0x94, ENTRY_FORMAT, ENTRY_MACHINE_VERSION, 0, 0x91, 0x91, (uint8_t)type};
    return entry_check(slice_of(entry, sizeof entry)) != ERR_UNSUPPORTED;
}

/* A message with the one option, of the wrong type. */
static bool is_option_known(unsigned option)
{
    uint8_t entry[] = {0x94,
                       ENTRY_FORMAT,
                       ENTRY_MACHINE_VERSION,
                       0,
                       0x91,
                       0x95,
                       OP_PUBLISH,
                       0,
                       0,
                       0,
                       0x91,
                       0x94,
                       0xa1,
                       'a',
                       0xc0,
                       0xc4,
                       0,
                       0x81,
                       (uint8_t)option,
                       0xc0};
    return entry_check(slice_of(entry, sizeof entry)) != ERR_UNSUPPORTED;
}

Test(stream_golden, all_logs_give_their_states_and_show_every_op)
{
    glob_t paths;
    struct seen seen = {0};
    cr_assert_eq(glob(WEIR_SOURCE_DIR "/tests/golden/logs/*.log", 0, NULL, &paths), 0);
    for (size_t i = 0; i < paths.gl_pathc; i++) {
        replay(paths.gl_pathv[i], &seen);
    }
    globfree(&paths);
    for (unsigned type = 1; type < OP_TYPES_MAX; type++) {
        cr_expect_eq((seen.ops >> type) & 1, is_op_known(type),
                     "op %u is in no golden log: add a recipe to tests/golden/record_logs.c", type);
    }
    for (unsigned option = 1; option < OPTIONS_MAX; option++) {
        cr_expect_eq((seen.options >> option) & 1, is_option_known(option),
                     "option %u of messages is in no golden log: add a recipe to "
                     "tests/golden/record_logs.c",
                     option);
    }
    for (unsigned kind = PROGRESS_DELIVER; kind <= PROGRESS_POSITION; kind++) {
        cr_expect((seen.kinds >> kind) & 1, "progress %u is in no golden log", kind);
    }
    cr_expect(seen.has_refused);
    cr_expect(seen.has_lane);
}
