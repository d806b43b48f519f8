#include "cluster/identity.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"

#define MAGIC "WEIRID01"
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

/* Append the stream names in @streams_path to @names, as many as fit. */
static void list_streams(const char *streams_path, struct buf *names)
{
    DIR *d = opendir(streams_path);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.' && names->len < NAMES_BYTES_MAX) {
            buf_append_str(names, names->len == 0 ? ", streams " : ", ");
            buf_append_str(names, e->d_name);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
}

/* What a nats-server keeps streams in. */
static bool is_nats_store(const char *store_dir, struct buf *names)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/jetstream", store_dir);
    DIR *d = opendir(path);
    bool is_found = false;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') {
            continue;
        }
        is_found = true;
        struct buf streams_path = BUF_EMPTY;
        buf_printf(&streams_path, "%s/%s/streams", path, e->d_name);
        buf_append_u8(&streams_path, 0);
        list_streams((const char *)streams_path.ptr, names);
        buf_close(&streams_path);
    }
    if (d != NULL) {
        closedir(d);
    }
    return is_found;
}

/* ERR_EXISTS with a sentence when the directory belongs to a nats-server. */
static int refuse_nats_store(const char *store_dir, char *error, size_t error_size)
{
    struct buf names = BUF_EMPTY;
    int rv = 0;
    if (is_nats_store(store_dir, &names)) {
        snprintf(
            error, error_size,
            "store directory \"%s\" holds data of a nats-server%.*s and none of weir; nothing "
            "was touched: start weir with an empty store directory, then move the streams with "
            "`nats stream backup` and `nats stream restore`",
            store_dir, SLICE_ARG(buf_slice(&names)));
        rv = ERR_EXISTS;
    }
    buf_close(&names);
    return rv;
}

static int make_dirs(const char *path)
{
    char partial[PATH_BYTES_MAX];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *s = partial + 1; *s != '\0'; s++) {
        if (*s == '/') {
            *s = '\0';
            if (mkdir(partial, 0750) != 0 && errno != EEXIST) {
                return ERR_IO;
            }
            *s = '/';
        }
    }
    return mkdir(partial, 0750) != 0 && errno != EEXIST ? ERR_IO : 0;
}

static int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ERR_IO;
    }
    int rv = fsync(fd) == 0 ? 0 : ERR_IO;
    close(fd);
    return rv;
}

int identity_save(const char *store_dir, const struct identity *id)
{
    char dir[PATH_BYTES_MAX], path[PATH_BYTES_MAX + 16], tmp[PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/weir", store_dir);
    snprintf(path, sizeof path, "%s/identity", dir);
    snprintf(tmp, sizeof tmp, "%s/identity.new", dir);
    struct buf out = BUF_EMPTY;
    encode(id, &out);
    int rv = ERR_IO;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd >= 0) {
        bool is_written = write(fd, out.ptr, out.len) == (ssize_t)out.len && fsync(fd) == 0;
        bool is_closed = close(fd) == 0;
        rv = is_written && is_closed && rename(tmp, path) == 0 ? sync_dir(dir) : ERR_IO;
    }
    buf_close(&out);
    return rv;
}

int identity_look(const char *store_dir, struct identity *ret_id)
{
    char path[PATH_BYTES_MAX + 16];
    uint8_t raw[IDENTITY_BYTES + 1];
    snprintf(path, sizeof path, "%s/weir/identity", store_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ? ERR_NOTFOUND : ERR_IO;
    }
    ssize_t n = read(fd, raw, sizeof raw);
    close(fd);
    return n < 0 ? ERR_IO : decode(slice_of(raw, (size_t)n), ret_id);
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

int identity_open(const char *store_dir, struct identity *ret_id, char *error, size_t error_size)
{
    char dir[PATH_BYTES_MAX], path[PATH_BYTES_MAX + 16];
    snprintf(dir, sizeof dir, "%s/weir", store_dir);
    snprintf(path, sizeof path, "%s/identity", dir);
    struct identity id;
    uint8_t raw[IDENTITY_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, raw, sizeof raw);
        close(fd);
        if (n < 0 || decode(slice_of(raw, (size_t)n), &id) != 0) {
            snprintf(error, error_size, "%s is corrupt; it is left as it is", path);
            return ERR_CORRUPT;
        }
        id.boot_count++;
    } else if (errno != ENOENT && errno != ENOTDIR) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        return ERR_IO;
    } else if (access(dir, F_OK) != 0 && refuse_nats_store(store_dir, error, error_size) != 0) {
        return ERR_EXISTS;
    } else {
        identity_random(&id);
        if (make_dirs(dir) != 0 || sync_dir(store_dir) != 0) {
            snprintf(error, error_size, "could not create storage directory - %s: %s", dir,
                     strerror(errno));
            return ERR_IO;
        }
    }
    if (identity_save(store_dir, &id) != 0) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        return ERR_IO;
    }
    *ret_id = id;
    return 0;
}
