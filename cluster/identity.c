#include "cluster/identity.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/small_file.h"

#define FILE_NAME "identity"
#define MAGIC "WEIRID01"
#define HOW_TO_JOIN                                                                                \
    "If other nodes of the cluster live: move %s aside and start again; the node then joins as a " \
    "new one and gets its replicas from the others"
#define PATH_BYTES_MAX 4096
#define NAMES_BYTES_MAX 200

void identity_random(struct identity *ret_id)
{
    memset(ret_id, 0, sizeof *ret_id);
    do {
        ssize_t n = getrandom(ret_id->uuid, sizeof ret_id->uuid, 0);
        assert(n == sizeof ret_id->uuid);
        (void)n;
    } while (identity_node_id(ret_id) == 0);
    ret_id->boot_count = 1;
}

uint64_t identity_node_id(const struct identity *id)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | id->uuid[i];
    }
    return value;
}

static int decode(struct slice s, struct identity *id)
{
    struct reader r = reader_of(s);
    struct slice magic = reader_bytes(&r, 8);
    struct slice uuid = reader_bytes(&r, 16);
    uint64_t boot_count = reader_u64(&r);
    struct slice cluster = reader_bytes(&r, 16);
    uint32_t crc = reader_u32(&r);
    if (r.failed || s.len != IDENTITY_BYTES || !slice_eq_str(magic, MAGIC) ||
        crc != crc32c(0, s.ptr, IDENTITY_BYTES - 4)) {
        return ERR_CORRUPT;
    }
    memcpy(id->uuid, uuid.ptr, 16);
    memcpy(id->cluster_uuid, cluster.ptr, 16);
    id->boot_count = boot_count;
    return 0;
}

static void encode(const struct identity *id, struct buf *out)
{
    buf_append(out, MAGIC, 8);
    buf_append(out, id->uuid, 16);
    buf_append_u64(out, id->boot_count);
    buf_append(out, id->cluster_uuid, 16);
    buf_append_u32(out, crc32c(0, out->ptr, out->len));
    assert(out->len == IDENTITY_BYTES);
}

struct names {
    struct buf text;
    bool is_found;
};

static void add_stream(void *arg, const char *name)
{
    struct names *n = arg;
    if (name[0] != '.' && n->text.len < NAMES_BYTES_MAX) {
        buf_append_str(&n->text, n->text.len == 0 ? ", streams " : ", ");
        buf_append_str(&n->text, name);
    }
}

struct accounts {
    const struct file_ops *ops;
    const char *path;
    struct names names;
};

static void add_account(void *arg, const char *name)
{
    struct accounts *a = arg;
    char path[PATH_BYTES_MAX + 300];
    if (name[0] == '.') {
        return;
    }
    a->names.is_found = true;
    snprintf(path, sizeof path, "%s/%s/streams", a->path, name);
    (void)a->ops->list(a->ops->ctx, path, add_stream, &a->names); /* Not all have some. */
}

/* What a nats-server keeps streams in. ERR_EXISTS with a sentence when it is there. */
static int refuse_nats_store(const struct file_ops *ops, const char *store_dir, char *error,
                             size_t error_size)
{
    char path[PATH_BYTES_MAX];
    struct accounts a = {.ops = ops, .path = path};
    snprintf(path, sizeof path, "%s/jetstream", store_dir);
    (void)ops->list(ops->ctx, path, add_account, &a);
    if (a.names.is_found) {
        snprintf(error, error_size,
                 "store directory \"%s\" holds data of a nats-server%.*s and none of weir; nothing "
                 "was touched: start weir with an empty store directory, and let a client copy the "
                 "messages from a nats-server that runs on this one",
                 store_dir, SLICE_ARG(buf_slice(&a.names.text)));
    }
    buf_close(&a.names.text);
    return a.names.is_found ? ERR_EXISTS : 0;
}

static int make_dirs(const struct file_ops *ops, const char *path)
{
    char partial[PATH_BYTES_MAX];
    snprintf(partial, sizeof partial, "%s", path);
    int rv = 0;
    for (char *s = partial + 1; *s != '\0' && (rv == 0 || rv == ERR_EXISTS); s++) {
        if (*s == '/') {
            *s = '\0';
            rv = ops->mkdir(ops->ctx, partial);
            *s = '/';
        }
    }
    rv = rv == 0 || rv == ERR_EXISTS ? ops->mkdir(ops->ctx, partial) : rv;
    return rv == ERR_EXISTS ? 0 : rv;
}

/* ---- Its two copies ---- */

static int read_copy(const struct file_ops *ops, const char *dir, const char *name,
                     struct identity *ret_id)
{
    uint8_t raw[IDENTITY_BYTES + 1];
    size_t n = 0;
    int rv = small_file_read(ops, dir, name, raw, sizeof raw, &n);
    return rv == 0 ? decode(slice_of(raw, n), ret_id) : rv;
}

/* The identity as far as one of the copies has it. The start that was counted last counts: a write
 * that was cut off was in the copy only, and nobody was told. */
static int look(const struct file_ops *ops, const char *dir, struct identity *ret_id,
                const char **ret_damaged)
{
    static const char *const names[2] = {FILE_NAME, FILE_NAME SMALL_FILE_COPY};
    struct identity ids[2];
    int rv[2];
    *ret_damaged = NULL;
    for (unsigned i = 0; i < 2; i++) {
        rv[i] = read_copy(ops, dir, names[i], &ids[i]);
        if (rv[i] != 0 && rv[i] != ERR_NOTFOUND && rv[i] != ERR_CORRUPT) {
            return rv[i];
        }
    }
    if (rv[0] != 0 && rv[1] != 0) {
        return rv[0] == ERR_NOTFOUND && rv[1] == ERR_NOTFOUND ? ERR_NOTFOUND : ERR_CORRUPT;
    }
    if (rv[0] == 0 && rv[1] == 0 && memcmp(ids[0].uuid, ids[1].uuid, sizeof ids[0].uuid) != 0) {
        return ERR_CORRUPT; /* Of two nodes. */
    }
    bool is_copy = rv[0] != 0 || (rv[1] == 0 && ids[1].boot_count > ids[0].boot_count);
    if (rv[0] != 0 || rv[1] == ERR_CORRUPT) { /* Earlier builds wrote no copy. */
        *ret_damaged = names[rv[0] != 0 ? 0 : 1];
    }
    *ret_id = ids[is_copy];
    return 0;
}

static int save(const struct file_ops *ops, const char *dir, const struct identity *id)
{
    struct buf out = BUF_EMPTY;
    encode(id, &out);
    int rv = small_file_write_twice(ops, dir, FILE_NAME, buf_slice(&out));
    buf_close(&out);
    return rv;
}

static void note_data(void *arg, const char *name)
{
    bool *is_there = arg;
    *is_there = *is_there || strcmp(name, "wal") == 0 || strcmp(name, "store") == 0 ||
                strcmp(name, "birth") == 0 || strcmp(name, "birth" SMALL_FILE_COPY) == 0;
}

/* No identity: a new node, unless something of an old one is there. */
static int make_new(const struct file_ops *ops, const char *store_dir, const char *dir,
                    struct identity *ret_id, char *error, size_t error_size)
{
    bool has_data = false;
    int rv = ops->list(ops->ctx, dir, note_data, &has_data);
    if (rv == ERR_NOTFOUND) {
        rv = refuse_nats_store(ops, store_dir, error, error_size);
        if (rv != 0) {
            return rv;
        }
    } else if (rv == 0 && has_data) {
        snprintf(error, error_size, "%s/" FILE_NAME " and its copy are missing. " HOW_TO_JOIN, dir,
                 dir);
        return ERR_CORRUPT;
    }
    identity_random(ret_id);
    ret_id->boot_count = 0;
    rv = rv == 0 || rv == ERR_NOTFOUND ? make_dirs(ops, dir) : rv;
    rv = rv == 0 ? ops->sync_dir(ops->ctx, store_dir) : rv;
    if (rv != 0) {
        snprintf(error, error_size, "could not create storage directory - %s: %s", dir,
                 strerror(ops->last_errno(ops->ctx)));
    }
    return rv;
}

int identity_look(const struct file_ops *ops, const char *store_dir, struct identity *ret_id)
{
    char dir[PATH_BYTES_MAX];
    const char *damaged;
    snprintf(dir, sizeof dir, "%s/weir", store_dir);
    return look(ops, dir, ret_id, &damaged);
}

int identity_open(const struct file_ops *ops, const char *store_dir, struct identity *ret_id,
                  char *error, size_t error_size)
{
    char dir[PATH_BYTES_MAX];
    struct identity id;
    const char *damaged;
    snprintf(dir, sizeof dir, "%s/weir", store_dir);
    int rv = look(ops, dir, &id, &damaged);
    if (rv == ERR_NOTFOUND) {
        rv = make_new(ops, store_dir, dir, &id, error, error_size);
        if (rv != 0) {
            return rv;
        }
    } else if (rv == ERR_CORRUPT) {
        snprintf(error, error_size,
                 "%s/" FILE_NAME
                 " is corrupt, and so is its copy; they are left as they are. " HOW_TO_JOIN,
                 dir, dir);
        return ERR_CORRUPT;
    } else if (rv == 0 && damaged != NULL) {
        log_err("Damage in %s/%s: it is written anew from its other copy", dir, damaged);
    }
    id.boot_count++;
    rv = rv == 0 ? save(ops, dir, &id) : rv;
    if (rv != 0) {
        snprintf(error, error_size, "%s/" FILE_NAME ": %s", dir,
                 strerror(ops->last_errno(ops->ctx)));
        return rv;
    }
    *ret_id = id;
    return 0;
}

int identity_lock(const char *store_dir)
{
    char path[PATH_BYTES_MAX + 16];
    snprintf(path, sizeof path, "%s/weir/lock", store_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : ERR_IO;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) { /* Else open from here on: the kernel lets go. */
        int rv = errno == EWOULDBLOCK ? ERR_EXISTS : ERR_IO;
        close(fd);
        return rv;
    }
    return 0;
}
