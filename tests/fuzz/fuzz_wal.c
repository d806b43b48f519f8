/* A directory of log files made from a script, with right checksums as often as not, opened three
 * times. Whatever the files say: opening ends with an answer; the second opening hands out what the
 * first did, forgets no suspicion and finds nothing new; and the log goes on. */
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/wal_internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/sim_disk.h"

#define BLOCKS_MAX 24u
#define FILES_MAX 5u
#define STEPS_MAX 64u

/* The file being made. */
struct image {
    uint8_t bytes[BLOCKS_MAX * WAL_BLOCK_BYTES];
    uint64_t size;
    uint64_t at;         /* Where the next frame goes. */
    uint64_t frame_at;   /* Where the last one is; 0: none. */
    uint64_t frame_size; /* In blocks' bytes. */
    uint32_t salt, prev_crc;
};

struct maker {
    struct sim_disk *disk;
    struct image *image;
    unsigned files;
    uint64_t next_lsn;
};

static const uint8_t own_uuid[16] = {1, 2, 3};

static void mend_head(struct image *im, uint64_t off)
{
    uint8_t *h = im->bytes + off;
    wal_put32(h + 4, crc32c(0, h + 8, WAL_FRAME_HEADER_BYTES - 8));
    im->prev_crc = wal_get32(h + 4);
    uint32_t stamp = wal_stamp(wal_get32(h + 8), wal_get64(h + 16));
    for (uint64_t at = off; at < off + im->frame_size; at += WAL_SECTOR_BYTES) {
        wal_put32(im->bytes + at + WAL_SECTOR_DATA, stamp);
    }
}

static void file_begin(struct maker *m, struct reader *r)
{
    struct image *im = m->image;
    memset(im, 0, sizeof *im);
    uint8_t how = reader_u8(r);
    im->size = (2 + reader_u8(r) % (BLOCKS_MAX - 1)) * WAL_BLOCK_BYTES;
    im->at = WAL_BLOCK_BYTES;
    im->salt = reader_u8(r) + 1u;
    uint8_t *h = im->bytes;
    wal_put64(h, WAL_FILE_MAGIC);
    wal_put32(h + 8, (how & 0x30) == 0x30 ? (uint32_t)script_number(r) : WAL_VERSION);
    wal_put32(h + 12, im->salt);
    memcpy(h + 16, own_uuid, sizeof own_uuid);
    wal_put64(h + 32, (how & 1) != 0 ? script_number(r) : m->files + 1);
    wal_put64(h + 40, (how & 2) != 0 ? script_number(r) : m->files + 1);
    wal_put64(h + 48, (how & 4) != 0 ? script_number(r) * WAL_BLOCK_BYTES : im->size);
    h[16] = (uint8_t)((how & 0xc0) == 0xc0 ? how : own_uuid[0]);
    wal_put32(h + 60, crc32c(0, h, 60) + ((how & 0x0c) == 0x0c));
    im->prev_crc = wal_get32(h + 60);
}

static void file_end(struct maker *m)
{
    struct image *im = m->image;
    const struct file_ops *ops = sim_disk_ops(m->disk);
    char path[64];
    struct file *f;
    if (im->size == 0) {
        return;
    }
    (void)snprintf(path, sizeof path, "wal/wal-%016x-%x.log", m->files + 1, m->files + 1);
    require(ops->open(ops->ctx, path, FILE_WRITE | FILE_CREATE, &f) == 0);
    require(ops->pwrite(ops->ctx, f, im->bytes, im->size, 0) == 0);
    ops->close(ops->ctx, f);
    m->files++;
    im->size = 0;
}

/* Records, or the gids of a footer; returns the length of the body. */
static uint32_t put_body(struct image *im, uint8_t *frame, uint64_t room, bool is_footer,
                         struct reader *r, uint32_t *ret_records)
{
    uint64_t at = WAL_FRAME_HEADER_BYTES;
    uint8_t count = reader_u8(r) % 12;
    *ret_records = 0;
    for (uint8_t i = 0; i < count; i++) {
        if (is_footer) {
            uint8_t gid[8];
            wal_put64(gid, script_number(r));
            if (at + sizeof gid > room) {
                break;
            }
            wal_stream_write(frame, at, gid, sizeof gid);
            at += sizeof gid;
            continue;
        }
        uint8_t head[WAL_RECORD_HEADER_BYTES] = {0};
        head[16] = reader_u8(r) % 32;
        uint64_t gid = script_number(r);
        uint8_t bad = reader_u8(r);
        struct slice payload = script_bytes(r);
        uint64_t end = at + sizeof head + (payload.len + 7) / 8 * 8;
        if (end > room) {
            break;
        }
        wal_put32(head + 4, bad == 1 ? (uint32_t)script_number(r) : (uint32_t)payload.len);
        wal_put64(head + 8, gid);
        wal_put32(head, crc32c(crc32c(0, head + 4, sizeof head - 4), payload.ptr, payload.len) +
                            (bad == 2));
        wal_stream_write(frame, at, head, sizeof head);
        wal_stream_write(frame, at + sizeof head, payload.ptr, payload.len);
        at = end;
        ++*ret_records;
    }
    (void)im;
    return (uint32_t)(at - WAL_FRAME_HEADER_BYTES);
}

static void put_frame(struct maker *m, struct reader *r, bool is_footer)
{
    struct image *im = m->image;
    if (im->size == 0 || im->at >= im->size) {
        return;
    }
    uint8_t how = reader_u8(r);
    uint8_t *h = im->bytes + im->at;
    uint32_t records;
    uint64_t room = (im->size - im->at) / WAL_SECTOR_BYTES * WAL_SECTOR_DATA;
    uint32_t len = put_body(im, h, room, is_footer, r, &records);
    uint64_t lsn = (how & 1) != 0 ? script_number(r) : m->next_lsn;
    uint32_t flags = is_footer ? WAL_FRAME_FOOTER : 0;
    wal_put32(h, WAL_FRAME_MAGIC);
    wal_put32(h + 8, im->salt);
    wal_put64(h + 16, lsn);
    wal_put64(h + 40, (how & 2) != 0 ? script_number(r) : lsn - 1);
    wal_put64(h + 48, (how & 4) != 0 ? script_number(r) : 1);
    if ((how & 8) != 0) {
        flags |= WAL_FRAME_GAP;
        wal_put64(h + 56, script_number(r));
    }
    wal_put32(h + 12, flags);
    wal_put32(h + 24, len);
    wal_put32(h + 28, records);
    wal_put32(h + 32, wal_stream_crc(h, WAL_FRAME_HEADER_BYTES, len) + ((how & 0x30) == 0x30));
    wal_put32(h + 36, (how & 0xc0) == 0xc0 ? 0 : im->prev_crc);
    im->frame_at = im->at;
    im->frame_size = wal_frame_bytes(len);
    mend_head(im, im->at);
    im->at += im->frame_size;
    m->next_lsn = lsn + records;
}

static void step(struct maker *m, struct reader *r)
{
    struct image *im = m->image;
    uint8_t op = reader_u8(r) % 9;
    if (op == 0 || im->size == 0) {
        file_end(m);
        if (m->files < FILES_MAX) {
            file_begin(m, r);
        }
        return;
    }
    switch (op) {
    case 1:
    case 2:
        put_frame(m, r, false);
        break;
    case 3:
        put_frame(m, r, true);
        break;
    case 4: /* Rot. */
        im->bytes[reader_u32(r) % im->size] ^= (uint8_t)(1 + reader_u8(r) % 255);
        break;
    case 5: /* What a torn write leaves. */
        memset(im->bytes + reader_u8(r) % (BLOCKS_MAX * 8) * WAL_SECTOR_BYTES, 0, WAL_SECTOR_BYTES);
        break;
    case 6:
        im->size = 1 + reader_u32(r) % im->size;
        break;
    case 7:
        im->at += reader_u8(r) % 4 * WAL_BLOCK_BYTES;
        break;
    default: /* Any field of the last header, and the checksum right again. */
        if (im->frame_at != 0 && im->frame_at + WAL_BLOCK_BYTES <= im->size) {
            unsigned field = 8u + reader_u8(r) % 14 * 4u;
            uint64_t value = script_number(r);
            wal_put32(im->bytes + im->frame_at + field, (uint32_t)value);
            if (field < 60) {
                wal_put32(im->bytes + im->frame_at + field + 4, (uint32_t)(value >> 32));
            }
            mend_head(im, im->frame_at);
        }
        break;
    }
}

/* ---- Opening ---- */

struct seen {
    uint64_t *lsns; /* Ascending. */
    uint64_t *hashes;
    size_t n;
    struct gid_set suspects;
    struct wal_recovery found;
    uint64_t trim_lsn, next_lsn;
};

static void on_record(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload)
{
    struct seen *s = arg;
    require(s->n == 0 || lsn > s->lsns[s->n - 1]);
    require(type >= WAL_TYPE_HOST_MIN);
    s->lsns = xrealloc(s->lsns, (s->n + 1) * sizeof *s->lsns);
    s->hashes = xrealloc(s->hashes, (s->n + 1) * sizeof *s->hashes);
    s->lsns[s->n] = lsn;
    s->hashes[s->n++] = gid * 31 + type + (uint64_t)crc32c(1, payload.ptr, payload.len) * 101;
}

static void on_suspect(void *arg, uint64_t gid)
{
    gid_set_add(&((struct seen *)arg)->suspects, gid);
}

static void seen_close(struct seen *s)
{
    free(s->lsns);
    free(s->hashes);
    gid_set_close(&s->suspects);
}

static struct wal *open_log(struct sim_disk *disk, uint32_t seed, struct seen *s)
{
    struct wal_options o = {.ops = sim_disk_ops(disk),
                            .fill_bytes = 1,
                            .dir = "wal",
                            .segment_bytes_min = 4 * WAL_BLOCK_BYTES,
                            .segment_bytes_max = 16 * WAL_BLOCK_BYTES,
                            .frame_bytes_max = 8192,
                            .salt_seed = seed,
                            .try_direct = true};
    memcpy(o.node_uuid, own_uuid, sizeof own_uuid);
    struct wal_replay replay = {.record = on_record, .suspect = on_suspect, .arg = s};
    struct wal *w = NULL;
    *s = (struct seen){.n = 0};
    int rv = wal_open(&o, &replay, &s->found, &w);
    require(rv == 0 || rv == ERR_CORRUPT || rv == ERR_VERSION);
    require((rv == 0) == (w != NULL));
    require(rv == 0 || s->found.damaged_file[0] != 0);
    if (w != NULL) {
        s->trim_lsn = w->trim_lsn;
        s->next_lsn = wal_next_lsn(w);
        require(wal_durable_lsn(w) == s->next_lsn - 1);
        require(s->n == 0 || s->lsns[s->n - 1] < s->next_lsn);
        require((s->found.is_corrupt || s->found.is_rotten) == (s->found.damaged_file[0] != 0));
    }
    return w;
}

static void require_kept(const struct seen *before, const struct seen *after)
{
    size_t k = 0;
    for (size_t i = 0; i < before->n; i++) {
        if (before->lsns[i] < before->trim_lsn) {
            continue; /* It may come and go with its file. */
        }
        while (k < after->n && after->lsns[k] < before->lsns[i]) {
            k++;
        }
        require(k < after->n && after->lsns[k] == before->lsns[i]);
        require(after->hashes[k] == before->hashes[i]);
    }
    if (before->trim_lsn > 1) {
        return; /* Suspicions below the trim LSN may go like any record. */
    }
    size_t count = after->suspects.n;
    struct gid_set both = {.slots = NULL};
    gid_set_merge(&both, &after->suspects);
    gid_set_merge(&both, &before->suspects);
    require(both.n == count);
    gid_set_close(&both);
}

static void commit(struct wal *w)
{
    const char *path;
    require(wal_batch_take(w));
    require(wal_batch_write(w, &path) == 0);
    wal_batch_done(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(slice_of(data, size));
    struct maker m = {.disk = sim_disk_new(1), .image = xcalloc(1, sizeof *m.image), .next_lsn = 1};
    const struct file_ops *ops = sim_disk_ops(m.disk);
    require(ops->mkdir(ops->ctx, "wal") == 0);
    for (unsigned i = 0; i < STEPS_MAX && !script_is_over(&r); i++) {
        step(&m, &r);
    }
    file_end(&m);
    free(m.image);

    struct seen first, second, third;
    struct wal *w = open_log(m.disk, 100, &first);
    if (w != NULL && first.next_lsn > WAL_NUMBER_MAX - WAL_NUMBER_ROOM - 1000) {
        wal_close(w); /* The next opening may refuse it. */
    } else if (w != NULL) {
        wal_close(w);
        w = open_log(m.disk, 200, &second);
        require(w != NULL);
        require_kept(&first, &second);
        require(second.next_lsn >= first.next_lsn);
        require(!second.found.is_corrupt && !second.found.is_rotten);
        struct slice part = SLICE_LIT("written after it");
        uint64_t lsn = wal_append(w, WAL_TYPE_HOST_MIN, 7, &part, 1);
        commit(w);
        wal_close(w);
        w = open_log(m.disk, 300, &third);
        require(w != NULL);
        require_kept(&second, &third);
        require(third.n > 0 && third.lsns[third.n - 1] == lsn);
        require(!third.found.is_corrupt && !third.found.is_rotten);
        wal_close(w);
        seen_close(&second);
        seen_close(&third);
    }
    seen_close(&first);
    sim_disk_free(m.disk);
    return 0;
}
