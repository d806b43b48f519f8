/* Golden logs of the meta machine give the same states for ever (tests/golden/meta). */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/golden/golden_meta.h"

#define RESTORE_EVERY 97 /* Entries: then a machine from the checkpoint of the other goes on. */
#include "tests/unit/golden_file.h"

#define WHAT_TO_DO                                                                                 \
    "what the meta machine does with entries of an old version has changed: nodes of this build "  \
    "and of older ones would differ. Keep the old rules for the old version and put the new ones " \
    "under a new one (META_MACHINE_VERSION in broker/meta.h; tests/golden/README.md)"

static const char *const ops[] = {"node",  "forget",  "create", "update",
                                  "place", "members", "lost",   "delete"};
#define OPS (sizeof ops / sizeof ops[0])

static const int errors[] = {API_ERROR_STREAM_NAME_EXIST, API_ERROR_STREAM_SUBJECT_OVERLAP,
                             API_ERROR_STREAM_NOT_FOUND,  API_ERROR_STREAM_UPDATE,
                             API_ERROR_PEER_REMAP,        API_ERROR_CLUSTER_SERVER_NOT_MEMBER};
#define ERRORS (sizeof errors / sizeof errors[0])

struct seen {
    bool ops[OPS];
    bool errors[ERRORS];
    char events[32];
    unsigned versions; /* Bit of each. */
};

static void see(struct seen *seen, struct slice entry)
{
    for (size_t i = 0; i < OPS; i++) {
        char text[32];
        snprintf(text, sizeof text, ",\"op\":\"%s\"", ops[i]);
        seen->ops[i] = seen->ops[i] || memmem(entry.ptr, entry.len, text, strlen(text)) != NULL;
    }
}

static void put_back(void *arg, struct slice key, struct slice value)
{
    cr_assert_eq(meta_restore_item(arg, key, value), 0);
}

static void restore(struct golden_meta *from, struct golden_meta *to)
{
    golden_meta_close(to);
    golden_meta_open(to);
    meta_checkpoint_all(from->m, put_back, to->m);
    cr_assert_eq(meta_restore_end(to->m), 0);
}

static void replay(const char *path, struct seen *seen)
{
    struct slice file = golden_read(path);
    struct golden_log log;
    struct golden_step step, now, again;
    struct golden_meta g, restored;
    uint64_t index = 0;
    int rv;
    cr_assert(golden_log_open(&log, file), "%s", path);
    golden_meta_open(&g);
    golden_meta_open(&restored);
    while ((rv = golden_log_next(&log, &step)) > 0) {
        see(seen, step.entry);
        index++;
        cr_assert_eq(golden_meta_step(&g, index, step.entry, &now), 0,
                     "%s, entry %llu is refused: %s", path, (unsigned long long)index, WHAT_TO_DO);
        cr_assert_eq(now.state_hash, step.state_hash, "%s, entry %llu gives another state: %s",
                     path, (unsigned long long)index, WHAT_TO_DO);
        cr_assert_eq(now.effects_hash, step.effects_hash, "%s, entry %llu does something else: %s",
                     path, (unsigned long long)index, WHAT_TO_DO);
        cr_assert_eq(golden_meta_step(&restored, index, step.entry, &again), 0);
        cr_assert(again.state_hash == step.state_hash && again.effects_hash == step.effects_hash,
                  "%s, entry %llu: a machine that was restored goes on otherwise", path,
                  (unsigned long long)index);
        if (index % RESTORE_EVERY == 0) {
            restore(&g, &restored);
        }
    }
    cr_assert_eq(rv, 0, "%s is cut off", path);
    cr_assert_gt(index, 0u, "%s", path);
    seen->versions |= 1u << meta_machine_version(g.m);
    for (const char *p = g.seen; *p != '\0'; p++) {
        if (strchr(seen->events, *p) == NULL) {
            seen->events[strlen(seen->events)] = *p;
        }
    }
    for (size_t i = 0; i < ERRORS; i++) {
        for (size_t k = 0; g.error_codes[k] != 0; k++) {
            seen->errors[i] = seen->errors[i] || g.error_codes[k] == errors[i];
        }
    }
    golden_meta_close(&g);
    golden_meta_close(&restored);
    free((void *)file.ptr);
}

Test(meta_golden, all_logs_give_their_states_and_show_every_op)
{
    glob_t paths;
    struct seen seen = {0};
    cr_assert_eq(glob(WEIR_SOURCE_DIR "/tests/golden/meta/*.log", 0, NULL, &paths), 0);
    for (size_t i = 0; i < paths.gl_pathc; i++) {
        replay(paths.gl_pathv[i], &seen);
    }
    globfree(&paths);
    for (size_t i = 0; i < OPS; i++) {
        cr_expect(seen.ops[i], "op %s is in no golden log", ops[i]);
    }
    for (size_t i = 0; i < ERRORS; i++) {
        cr_expect(seen.errors[i], "nothing is refused with error %d in any golden log", errors[i]);
    }
    for (const char *p = GOLDEN_EVENTS; *p != '\0'; p++) {
        cr_expect_not_null(strchr(seen.events, *p), "event %c is in no golden log", *p);
    }
    for (unsigned version = 1; version <= META_MACHINE_VERSION; version++) {
        cr_expect((seen.versions >> version & 1) != 0,
                  "no golden log is of version %u: record one (tests/golden/README.md)", version);
    }
}
