/* The WAL's writer thread beside a loop that appends, trims and looks, on real files, direct and
 * buffered: a plain program, because Criterion does not start under TSan. Then everything that was
 * reported durable is read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/base/buf.h"
#include "storage/wal_thread.h"

#define RECORDS 4000u
#define TYPE 16u

struct replayed {
    uint64_t first, last;
    uint64_t count;
    bool is_bad;
};

static void on_durable(void *arg)
{
    (void)arg;
}

static void on_failed(void *arg, int err, int errno_value, const char *path)
{
    (void)arg;
    fprintf(stderr, "error %d, errno %d, %s\n", err, errno_value, path);
    abort();
}

static void on_record(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct replayed *r = arg;
    if (type != TYPE) {
        return;
    }
    uint64_t n = 0;
    memcpy(&n, payload.ptr, payload.len < sizeof n ? payload.len : sizeof n);
    r->is_bad = r->is_bad || payload.len != 8 + n % 3000 || gid != n % 7 || lsn <= r->last;
    r->first = r->count == 0 ? lsn : r->first;
    r->last = lsn;
    r->count++;
}

static void on_suspect(void *arg, uint64_t gid)
{
    struct replayed *r = arg;
    (void)gid;
    r->is_bad = true;
}

static struct wal *open_wal(const char *dir, bool is_direct, struct replayed *r)
{
    struct wal_options o = {.ops = file_ops_posix(),
                            .dir = dir,
                            .node_uuid = {1},
                            .segment_bytes_min = 256 * 1024,
                            .segment_bytes_max = 1024 * 1024,
                            .frame_bytes_max = 64 * 1024,
                            .fill_bytes = 32 * 1024,
                            .salt_seed = 1,
                            .try_direct = is_direct};
    struct wal_replay replay = {.record = on_record, .suspect = on_suspect, .arg = r};
    struct wal_recovery recovery;
    struct wal *w;
    if (wal_open(&o, &replay, &recovery, &w) != 0) {
        fprintf(stderr, "%s does not open\n", dir);
        abort();
    }
    return w;
}

static void append_some(struct wal_thread *t, uint64_t *n)
{
    static uint8_t bytes[8 + 3000];
    for (unsigned i = 0; i < 25; i++, ++*n) {
        memcpy(bytes, n, sizeof *n);
        struct slice part = slice_of(bytes, 8 + *n % 3000);
        (void)wal_thread_append(t, TYPE, *n % 7, &part, 1);
    }
    wal_thread_kick(t);
}

static void trim_old(struct wal_thread *t)
{
    uint64_t durable = wal_thread_durable_lsn(t);
    struct wal *w = wal_thread_lock(t);
    if (wal_sealed_count(w) > 4 && durable > 200) {
        wal_trim(w, durable - 200);
    }
    wal_thread_unlock(t);
    (void)wal_thread_stuck_ms(t);
    uint64_t counts[WAL_SYNC_BUCKETS];
    wal_thread_syncs(t, counts);
}

static int run(bool is_direct)
{
    char dir[] = "/tmp/weir-thread-wal-XXXXXX";
    struct replayed before = {0}, after = {0};
    if (mkdtemp(dir) == NULL) {
        abort();
    }
    struct wal *w = open_wal(dir, is_direct, &before);
    struct wal_thread_options o = {
        .wal = w, .durable = on_durable, .failed = on_failed, .idle_ms = 2};
    struct wal_thread *t;
    if (wal_thread_start(&o, &t) != 0) {
        abort();
    }
    for (uint64_t n = 0; n < RECORDS;) {
        append_some(t, &n);
        trim_old(t);
        if (n % 1000 == 0) {
            usleep(5000); /* Idle: watermarks, and the next segment. */
        }
    }
    wal_thread_stop(t);
    uint64_t durable = wal_durable_lsn(w);
    const char *mode = wal_mode_text(w);
    printf("%s: %llu durable\n", mode, (unsigned long long)durable);
    wal_close(w);
    wal_close(open_wal(dir, is_direct, &after));
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", dir);
    if (system(command) != 0) {
        return 1;
    }
    if (after.is_bad || after.count < 200 || after.count > RECORDS || after.last > durable ||
        after.last + 16 < durable) {
        fprintf(stderr, "%llu records from %llu to %llu, durable was %llu\n",
                (unsigned long long)after.count, (unsigned long long)after.first,
                (unsigned long long)after.last, (unsigned long long)durable);
        return 1;
    }
    return 0;
}

int main(void)
{
    return run(true) | run(false);
}
