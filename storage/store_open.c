/* Opening the store: the newest valid generation of the journal, the tables of blocks, and what is
 * done with files that nothing names. */

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/base/err.h"
#include "storage/store_internal.h"

struct opening {
    struct store *st;
    struct store_stream *s;
    bool is_bad;
};

static void on_global(void *arg, uint8_t kind, struct slice key, struct slice value)
{
    struct opening *o = arg;
    struct store *st = o->st;
    if (kind == KIND_FILE && key.len == 8 && value.len == FILE_VALUE_BYTES) {
        struct data_file *f = file_new(st, get_u64(key.ptr));
        f->bytes = get_u64(value.ptr);
        f->created_generation = get_u64(value.ptr + 8);
        f->died_generation = get_u64(value.ptr + 16);
        f->dead_pass = get_u64(value.ptr + 24);
    } else if (kind == KIND_COUNTERS && value.len == 16) {
        st->next_file = get_u64(value.ptr);
        st->next_block = get_u64(value.ptr + 8);
    } else {
        o->is_bad = true;
    }
}

static void on_stream_item(void *arg, uint8_t kind, struct slice key, struct slice value)
{
    struct opening *o = arg;
    struct store_stream *s = o->s;
    if (kind == KIND_STREAM) {
        if (value.len != STREAM_VALUE_BYTES) {
            o->is_bad = true;
            return;
        }
        s->sid = get_u64(value.ptr);
        s->applied_index = get_u64(value.ptr + 8);
        s->applied_term = get_u64(value.ptr + 16);
        s->last_seq = get_u64(value.ptr + 24);
        return;
    }
    struct block *b = block_new(s);
    uint64_t number;
    if (key.len != 8 || !block_decode(b, &number, value)) {
        o->is_bad = true;
        block_free(b);
        return;
    }
    b->id = get_u64(key.ptr);
    struct data_file *f = file_find(o->st, number);
    if (f == NULL) {
        f = file_new(o->st, number);
        o->is_bad = true;
    }
    f->blocks_count++;
    b->live_bytes = b->index_off - BLOCK_HEADER_BYTES;
    block_attach_file(b, f);
    blocks_push(s, b);
}

static void on_group(void *arg, uint64_t gid)
{
    struct opening *o = arg;
    if (gid != 0) {
        store_stream_new(o->st, gid, 0);
    }
}

static int load_tables(struct store *st)
{
    struct opening o = {.st = st};
    checkpoint_each_group(st->checkpoint, on_group, &o);
    int rv = checkpoint_read(st->checkpoint, 0, KIND_BIT(KIND_FILE) | KIND_BIT(KIND_COUNTERS),
                             on_global, &o);
    struct store_stream *s, *tmp;
    HASH_ITER(hh, st->streams, s, tmp)
    {
        if (rv != 0) {
            break;
        }
        o.s = s;
        rv = checkpoint_read(st->checkpoint, s->gid, KIND_BIT(KIND_STREAM) | KIND_BIT(KIND_BLOCK),
                             on_stream_item, &o);
        blocks_sort(s);
    }
    /* Checksums were right: what makes no sense was written so. */
    return rv == 0 && o.is_bad ? ERR_CORRUPT : rv;
}

struct listing {
    struct store *st;
    struct name {
        char text[256];
    } * names;
    size_t count;
};

static void on_name(void *arg, const char *name)
{
    struct listing *l = arg;
    if (strlen(name) >= sizeof l->names->text) {
        return;
    }
    l->names = xrealloc(l->names, (l->count + 1) * sizeof *l->names);
    snprintf(l->names[l->count++].text, sizeof l->names->text, "%s", name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static bool is_listed(const struct listing *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->names[i].text, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Nothing may be lost that somebody could want to look at: renamed, never deleted. */
static int quarantine(struct store *st, const struct listing *l, const char *name,
                      struct store_recovery *rec)
{
    char aside[512];
    snprintf(aside, sizeof aside, "%s.quarantine", name);
    for (unsigned n = 2; is_listed(l, aside); n++) {
        snprintf(aside, sizeof aside, "%s.%u.quarantine", name, n);
    }
    char from[STORE_PATH_BYTES * 2];
    char to[STORE_PATH_BYTES * 2];
    snprintf(from, sizeof from, "%s/%s", st->dir, name);
    snprintf(to, sizeof to, "%s/%s", st->dir, aside);
    int rv = st->ops->rename(st->ops->ctx, from, to);
    if (rv != 0) {
        return rv;
    }
    rec->quarantined_count++;
    struct store_damage d = {STORE_DAMAGE_QUARANTINE, 0, 0, 0, to};
    store_report(st, &d);
    return 0;
}

static int drop_name(struct store *st, const char *name)
{
    char path[STORE_PATH_BYTES * 2];
    snprintf(path, sizeof path, "%s/%s", st->dir, name);
    return st->ops->unlink(st->ops->ctx, path);
}

/* Cut what stands beyond the length that the checkpoint names: replay writes it again. */
static int cut(struct store *st, struct data_file *f, struct store_recovery *rec)
{
    char path[STORE_PATH_BYTES];
    store_file_path(st, f->number, path);
    struct file *file;
    int rv = st->ops->open(st->ops->ctx, path, FILE_READ | FILE_WRITE, &file);
    if (rv != 0) {
        store_fail(st, path);
        return rv;
    }
    uint64_t size;
    rv = st->ops->size(st->ops->ctx, file, &size);
    if (rv == 0 && size > f->bytes) {
        rec->cut_bytes += size - f->bytes;
        rv = st->ops->truncate(st->ops->ctx, file, f->bytes);
    }
    st->ops->close(st->ops->ctx, file);
    if (rv != 0) {
        store_fail(st, path);
    }
    return rv;
}

static int recover_name(struct store *st, const struct listing *l, const char *name,
                        struct store_recovery *rec)
{
    uint64_t number;
    int end = 0;
    size_t len = strlen(name);
    if (len > 6 && (strcmp(name + len - 6, ".stage") == 0)) {
        /* A catch-up that was cut short goes on. */
        return store_left_found(st, name) ? 0 : drop_name(st, name);
    }
    if (len > 4 && strncmp(name, "ckpt-", 5) == 0 && strcmp(name + len - 4, ".tmp") == 0) {
        return drop_name(st, name); /* A generation that never began. */
    }
    if (checkpoint_name(name, &number)) {
        uint64_t loaded = checkpoint_generation(st->checkpoint);
        if (number > loaded) {
            return quarantine(st, l, name, rec); /* Unreadable: loading has passed it over. */
        }
        if (number < loaded && number > st->previous_generation) {
            st->previous_generation = number;
        }
        return 0;
    }
    if (sscanf(name, "data-%16" SCNx64 "%n", &number, &end) != 1 || end < 21) {
        return 0; /* Not ours. */
    }
    if (number >= st->next_file && number < UINT64_MAX) {
        st->next_file = number + 1;
    }
    if (strcmp(name + end, ".wblk") != 0) {
        return 0;
    }
    struct data_file *f = file_find(st, number);
    if (f == NULL) {
        return quarantine(st, l, name, rec);
    }
    return f->died_generation != 0 ? 0 : cut(st, f, rec);
}

static void find_dead_journals(struct store *st, const struct listing *l, uint64_t pass)
{
    for (size_t i = 0; i < l->count; i++) {
        uint64_t number;
        bool is_new = st->dead_journals == NULL;
        if (checkpoint_name(l->names[i].text, &number) && number < st->previous_generation &&
            (is_new ||
             st->dead_journals->generation != number)) { /* By name: both copies in a row. */
            struct dead_journal *d = xcalloc(1, sizeof *d);
            *d = (struct dead_journal){st->dead_journals, number, pass};
            st->dead_journals = d;
        }
    }
}

static int recover_names(struct store *st, struct store_recovery *rec)
{
    struct listing l = {.st = st};
    int rv = st->ops->list(st->ops->ctx, st->dir, on_name, &l);
    if (rv == 0 && l.count > 0) {
        qsort(l.names, l.count, sizeof *l.names, by_text);
    }
    for (size_t i = 0; i < l.count && rv == 0; i++) {
        rv = recover_name(st, &l, l.names[i].text, rec);
    }
    if (rv == 0) {
        find_dead_journals(st, &l, rec->pass);
    }
    free(l.names);
    return rv;
}

static size_t or_default(size_t value, size_t fallback)
{
    return value == 0 ? fallback : value;
}

static struct store *store_new(const struct store_options *options)
{
    struct store *st = xcalloc(1, sizeof *st);
    st->options = *options;
    st->ops = options->ops;
    st->dir = xslicedup(slice_str(options->dir));
    st->options.dir = st->dir;
    st->options.block_bytes = or_default(options->block_bytes, 1024 * 1024);
    st->options.file_bytes = or_default(options->file_bytes, 8 * 1024 * 1024);
    st->options.small_bytes = or_default(options->small_bytes, 256 * 1024);
    st->options.cache_bytes = or_default(options->cache_bytes, 64 * 1024 * 1024);
    st->options.rewrite_bytes = or_default(options->rewrite_bytes, 8 * 1024 * 1024);
    st->options.journal_bytes_min = or_default(options->journal_bytes_min, 1024 * 1024);
    st->options.dead_bytes_max = or_default(options->dead_bytes_max, 64 * 1024 * 1024);
    st->next_file = 1;
    st->next_block = 1;
    list_init(&st->cache);
    return st;
}

static void report_journal(struct store *st, const struct checkpoint_recovery *cr)
{
    for (unsigned i = 0; i < CHECKPOINT_COPIES; i++) {
        if (cr->is_copy_damaged[i]) {
            store_report_copy(st, cr->is_rotten ? STORE_DAMAGE_CHECKPOINT : STORE_DAMAGE_COPY,
                              cr->generation, i);
        }
    }
    if (cr->is_fallback) {
        store_report_copy(st, STORE_DAMAGE_CHECKPOINT, cr->unreadable, 0);
    }
}

int store_open(const struct store_options *options, struct store_recovery *ret_recovery,
               struct store **ret_store)
{
    assert(strlen(options->dir) < STORE_PATH_BYTES - 64);
    struct store *st = store_new(options);
    struct checkpoint_options co = {st->ops, st->dir, options->machine_version,
                                    st->options.journal_bytes_min};
    struct checkpoint_recovery cr;
    struct store_recovery rec = {0};
    int rv = checkpoint_open(&co, &cr, &st->checkpoint);
    if (rv != 0) {
        goto err;
    }
    rec.generation = cr.generation;
    rec.pass = cr.pass;
    rec.is_torn = cr.is_torn;
    rec.is_rotten = cr.is_rotten;
    rec.is_fallback = cr.is_fallback;
    st->is_journal_damaged = cr.must_rewrite;
    report_journal(st, &cr);
    rv = load_tables(st);
    if (rv == 0) {
        rv = recover_names(st, &rec);
    }
    if (rv != 0) {
        goto err;
    }
    rec.streams_count = HASH_COUNT(st->streams);
    store_count_totals(st);
    *ret_recovery = rec;
    *ret_store = st;
    return 0;

err:
    store_close(st);
    return rv;
}

void store_close(struct store *st)
{
    if (st == NULL) {
        return;
    }
    assert(st->job == NULL);
    assert(st->images_count == 0);
    assert(st->stages == NULL);
    assert(st->reads_count == 0);
    struct store_stream *s, *stmp;
    HASH_ITER(hh, st->streams, s, stmp)
    {
        HASH_DEL(st->streams, s);
        store_stream_free(s);
    }
    struct data_file *f, *ftmp;
    HASH_ITER(hh, st->files, f, ftmp)
    {
        HASH_DEL(st->files, f);
        free(f);
    }
    while (st->dropped != NULL) {
        struct dropped *d = st->dropped;
        st->dropped = d->next;
        free(d->blocks.items);
        free(d);
    }
    while (st->dead_journals != NULL) {
        struct dead_journal *d = st->dead_journals;
        st->dead_journals = d->next;
        free(d);
    }
    store_left_close(st);
    checkpoint_close(st->checkpoint);
    free(st->dir);
    free(st);
}
