/* Who a node is, on a disk that fails, loses power and rots. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/identity.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "tests/lib/sim_disk.h"

#define FILE_PATH "/s/weir/identity"
#define COPY_PATH "/s/weir/identity.copy"

static void quiet(void)
{
    struct log_options o = {.path = "/dev/null"}; /* It tells of each damage. */
    cr_assert_eq(log_open(&o), 0);
}

TestSuite(identity, .init = quiet);

static int start(struct sim_disk *d, struct identity *ret_id, char *error)
{
    error[0] = 0;
    return identity_open(sim_disk_ops(d), "/s", ret_id, error, 512);
}

/* A disk on which a node was started so often. */
static struct sim_disk *started(unsigned times, struct identity *ret_id)
{
    struct sim_disk *d = sim_disk_new(1);
    char error[512];
    const struct file_ops *ops = sim_disk_ops(d);
    cr_assert_eq(ops->mkdir(ops->ctx, "/s"), 0);
    cr_assert_eq(ops->sync_dir(ops->ctx, "/"), 0);
    for (unsigned i = 0; i < times; i++) {
        cr_assert_eq(start(d, ret_id, error), 0, "%s", error);
    }
    return d;
}

static void check_next(struct sim_disk *d, const struct identity *before, const char *what,
                       uint64_t at)
{
    struct identity id;
    char error[512];
    cr_assert_eq(start(d, &id, error), 0, "%s %" PRIu64 ": %s", what, at, error);
    cr_assert_eq(memcmp(id.uuid, before->uuid, sizeof id.uuid), 0, "%s %" PRIu64, what, at);
    cr_assert_eq(id.boot_count, before->boot_count + 1, "%s %" PRIu64, what, at);
    /* And both copies are whole again. */
    uint64_t size = sim_disk_file_size(d, FILE_PATH);
    cr_assert_eq(size, IDENTITY_BYTES);
    cr_assert_eq(sim_disk_file_size(d, COPY_PATH), size);
    uint8_t bytes[IDENTITY_BYTES];
    memcpy(bytes, sim_disk_bytes(d, FILE_PATH), size);
    cr_assert_eq(memcmp(bytes, sim_disk_bytes(d, COPY_PATH), size), 0);
    sim_disk_free(d);
}

static const char *const paths[] = {FILE_PATH, COPY_PATH};

Test(identity, damage_of_one_copy_is_taken_from_the_other)
{
    struct identity id;
    struct sim_disk *d = started(3, &id);
    cr_assert_eq(id.boot_count, 3);
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t bit = 0; bit < IDENTITY_BYTES * 8; bit++) {
            struct sim_disk *c = sim_disk_clone(d);
            cr_assert(sim_disk_flip_bit(c, paths[i], bit));
            check_next(c, &id, paths[i], bit);
        }
        for (uint64_t len = 0; len < IDENTITY_BYTES; len++) {
            struct sim_disk *c = sim_disk_clone(d);
            cr_assert(sim_disk_cut(c, paths[i], len));
            check_next(c, &id, "cut", len);
        }
        struct sim_disk *c = sim_disk_clone(d);
        const struct file_ops *ops = sim_disk_ops(c);
        cr_assert(sim_disk_fill(c, paths[i], 0, IDENTITY_BYTES, 0));
        check_next(c, &id, "zeroed", i);
        c = sim_disk_clone(d);
        ops = sim_disk_ops(c);
        cr_assert_eq(ops->unlink(ops->ctx, paths[i]), 0);
        check_next(c, &id, "missing", i);
    }
    sim_disk_free(d);
}

Test(identity, damage_of_both_copies_is_refused_by_name_and_changes_nothing)
{
    struct identity id;
    struct sim_disk *d = started(2, &id);
    for (uint64_t bit = 0; bit < IDENTITY_BYTES * 8; bit++) {
        char error[512];
        struct sim_disk *c = sim_disk_clone(d);
        cr_assert(sim_disk_flip_bit(c, FILE_PATH, bit));
        cr_assert(sim_disk_flip_bit(c, COPY_PATH, (bit * 7 + 3) % (IDENTITY_BYTES * 8)));
        uint64_t hash = sim_disk_hash(c);
        cr_assert_eq(start(c, &id, error), ERR_CORRUPT);
        cr_assert_not_null(strstr(error, FILE_PATH), "%s", error);
        cr_assert_not_null(strstr(error, "move /s/weir aside"), "%s", error);
        cr_assert_eq(sim_disk_hash(c), hash);
        sim_disk_free(c);
    }
    sim_disk_free(d);
}

Test(identity, a_store_without_an_identity_is_nobodys)
{
    static const char *const data[] = {"wal", "store", "birth", "birth.copy"};
    for (unsigned i = 0; i < 4; i++) {
        struct identity id;
        char error[512];
        char path[64];
        struct sim_disk *d = started(1, &id);
        const struct file_ops *ops = sim_disk_ops(d);
        snprintf(path, sizeof path, "/s/weir/%s", data[i]);
        cr_assert_eq(ops->mkdir(ops->ctx, path), 0);
        cr_assert_eq(ops->unlink(ops->ctx, FILE_PATH), 0);
        cr_assert_eq(ops->unlink(ops->ctx, COPY_PATH), 0);
        cr_assert_eq(start(d, &id, error), ERR_CORRUPT);
        cr_assert_not_null(strstr(error, "missing"), "%s", error);
        sim_disk_free(d);
    }
}

Test(identity, copies_of_two_nodes_are_refused)
{
    struct identity id;
    char error[512];
    struct sim_disk *d = started(1, &id);
    struct sim_disk *other = started(1, &id);
    uint8_t bytes[IDENTITY_BYTES];
    memcpy(bytes, sim_disk_bytes(other, COPY_PATH), sizeof bytes);
    cr_assert(sim_disk_write(d, COPY_PATH, 0, bytes, sizeof bytes));
    cr_assert_eq(start(d, &id, error), ERR_CORRUPT);
    sim_disk_free(d);
    sim_disk_free(other);
}

/* A start that was told of is never counted twice, and nobody becomes another one. */
static void check_after(struct sim_disk *d, const struct identity *told, uint64_t at)
{
    struct identity id;
    char error[512];
    cr_assert_eq(start(d, &id, error), 0, "%" PRIu64 ": %s", at, error);
    if (told->boot_count > 0) {
        cr_assert_eq(memcmp(id.uuid, told->uuid, sizeof id.uuid), 0, "%" PRIu64, at);
        cr_assert_gt(id.boot_count, told->boot_count, "%" PRIu64, at);
    }
}

Test(identity, each_call_failing_once_is_an_error_that_names_the_file_and_the_next_start_is_clean)
{
    static const int errors[] = {ERR_IO, ERR_NOSPACE};
    for (unsigned before = 0; before < 3; before++) {
        for (unsigned e = 0; e < 2; e++) {
            unsigned failed = 0;
            for (uint64_t nth = 1;; nth++) {
                struct identity told = {0};
                struct identity id;
                char error[512];
                struct sim_disk *d = started(before, &told);
                uint64_t calls = sim_disk_calls(d, SIM_DISK_ANY);
                sim_disk_fail(d, SIM_DISK_ANY, nth, errors[e]);
                int rv = start(d, &id, error);
                bool was_called = sim_disk_calls(d, SIM_DISK_ANY) - calls >= nth;
                sim_disk_fail(d, SIM_DISK_ANY, 0, 0);
                if (rv == 0) {
                    told = id;
                } else {
                    failed++;
                    cr_assert_eq(rv, errors[e]);
                    cr_assert_not_null(strstr(error, "/s/weir"), "%" PRIu64 ": %s", nth, error);
                }
                sim_disk_crash(d, nth);
                check_after(d, &told, nth);
                sim_disk_free(d);
                if (!was_called) {
                    break;
                }
            }
            cr_assert_gt(failed, 12);
        }
    }
}

struct cut_off {
    struct identity told;
    uint64_t told_at; /* Operations on the disk before it returned. */
    uint64_t states;
};

static bool on_state(void *arg, struct sim_disk *state, uint64_t prefix)
{
    struct cut_off *c = arg;
    struct identity none = {0};
    check_after(state, prefix >= c->told_at ? &c->told : &none, prefix);
    c->states++;
    return true;
}

Test(identity, a_power_cut_anywhere_loses_no_start_that_was_told_of)
{
    for (unsigned before = 0; before < 3; before++) {
        struct cut_off c = {0};
        struct sim_disk *d = started(before, &c.told);
        char error[512];
        sim_disk_trace_start(d);
        cr_assert_eq(start(d, &c.told, error), 0);
        c.told_at = sim_disk_trace_count(d);
        cr_assert_eq(start(d, &(struct identity){0}, error), 0);
        struct sim_disk_states how = {.subsets_max = 64, .prefix_step = 1, .seed = before};
        sim_disk_each_state(d, &how, on_state, &c);
        cr_assert_gt(c.states, 20);
        sim_disk_free(d);
    }
}
