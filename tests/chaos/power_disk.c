/* A disk whose power can be cut: a FUSE file system of two files.
 *
 *     power_disk FOLDER MEBIBYTES
 *
 * FOLDER/disk is the disk, in memory; a loop device over it carries a real file system. What is
 * written there counts as lost until a sync: the disk keeps the content of the last sync, and each
 * write since then in order. FOLDER/control takes one command per write, and reads as the figures
 * so far:
 *
 *     cut SEED PERMILLE    The power goes. Of each write since the last sync each sector of 512
 *                          bytes survives with this likelihood, in the order of writing, so that of
 *                          a sector written twice any state may remain. From then on all calls
 * fail. on                   The power is back. fail / well          Writes and syncs fail with
 * EIO, reads do not; until it is well. unreadable / readable    Reads fail with EIO; until it is
 * readable. hang / go            No read, write or sync returns before it goes again. lie / honest
 * Syncs are answered and not done; until it is honest. Nothing survives that. take MICROSECONDS So
 * long takes a sync, and the power may go meanwhile. 1000 to begin with; from 10000 on it counts as
 * slow.
 *
 * A sync covers the writes that were answered before it came, and no others. It ends when it is
 * unmounted, and with the process that started it. */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512u
#define SLOW_US 10000

/* A write since the last sync. */
struct unsynced {
    size_t off;
    size_t len;
    uint8_t *data;
};

static struct {
    size_t size;
    uint8_t *now;    /* What reads show. */
    uint8_t *synced; /* What the last sync left. */
    struct unsynced *log;
    size_t log_len;
    size_t log_cap;
    uint64_t log_base; /* How many writes were synced or cut before the first of the log. */
    long sync_us;
    bool is_off;
    bool is_failing;
    bool is_unreadable;
    bool is_hanging;
    bool is_lying;
    uint64_t writes;
    uint64_t syncs;
    uint64_t cuts;
    uint64_t dropped; /* Sectors that differed from what stayed. */
    uint64_t kept;    /* Sectors that survived a cut without a sync. */
    uint64_t errors;
    uint64_t read_errors;
    uint64_t slow; /* Syncs that took SLOW_US or longer. */
    uint64_t hung; /* Calls that had to wait until it went again. */
    uint64_t random;
} disk = {.sync_us = 1000};

static pthread_mutex_t lock =
    PTHREAD_MUTEX_INITIALIZER; /* Of all of it: FUSE calls from several threads. */
static pthread_cond_t goes = PTHREAD_COND_INITIALIZER;

/* Source: xorshift64*, Marsaglia 2003, Vigna 2016. */
static uint64_t next_random(void)
{
    uint64_t x = disk.random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    disk.random = x;
    return x * 0x2545f4914f6cdd1dULL;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Forget the first @n. */
static void log_shift(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(disk.log[i].data);
    }
    memmove(disk.log, disk.log + n, (disk.log_len - n) * sizeof *disk.log);
    disk.log_len -= n;
    disk.log_base += n;
}

static void log_add(size_t off, const char *data, size_t len)
{
    if (disk.log_len == disk.log_cap) {
        disk.log_cap = disk.log_cap == 0 ? 1024 : disk.log_cap * 2;
        disk.log = realloc(disk.log, disk.log_cap * sizeof *disk.log);
        if (disk.log == NULL) {
            die("realloc");
        }
    }
    uint8_t *copy = malloc(len);
    if (copy == NULL) {
        die("malloc");
    }
    memcpy(copy, data, len);
    disk.log[disk.log_len++] = (struct unsynced){off, len, copy};
}

/* All writes before number @end are on stable storage. */
static void log_sync(uint64_t end)
{
    size_t n = end > disk.log_base ? (size_t)(end - disk.log_base) : 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(disk.synced + disk.log[i].off, disk.log[i].data, disk.log[i].len);
    }
    if (n > 0) {
        log_shift(n);
    }
}

static void cut(uint64_t seed, unsigned permille)
{
    disk.random = (seed + 1) * 0x9e3779b97f4a7c15ULL | 1;
    (void)next_random();
    for (size_t i = 0; i < disk.log_len; i++) {
        const struct unsynced *u = &disk.log[i];
        for (size_t at = 0; at < u->len;) {
            size_t n = SECTOR - (u->off + at) % SECTOR;
            n = n < u->len - at ? n : u->len - at;
            uint8_t *stays = disk.synced + u->off + at;
            if (memcmp(stays, u->data + at, n) != 0) {
                if (next_random() % 1000 < permille) {
                    memcpy(stays, u->data + at, n);
                    disk.kept++;
                } else {
                    disk.dropped++;
                }
            }
            at += n;
        }
    }
    for (size_t i = 0; i < disk.log_len; i++) {
        const struct unsynced *u = &disk.log[i];
        memcpy(disk.now + u->off, disk.synced + u->off, u->len);
    }
    if (disk.log_len > 0) {
        log_shift(disk.log_len);
    }
    disk.is_off = true;
    disk.cuts++;
}

static int command(const char *text)
{
    unsigned long long seed;
    unsigned permille;
    long us;
    if (sscanf(text, "cut %llu %u", &seed, &permille) == 2 && permille <= 1000) {
        cut(seed, permille);
    } else if (strcmp(text, "on") == 0) {
        disk.is_off = false;
    } else if (strcmp(text, "fail") == 0) {
        disk.is_failing = true;
    } else if (strcmp(text, "well") == 0) {
        disk.is_failing = false;
    } else if (strcmp(text, "unreadable") == 0) {
        disk.is_unreadable = true;
    } else if (strcmp(text, "readable") == 0) {
        disk.is_unreadable = false;
    } else if (strcmp(text, "hang") == 0) {
        disk.is_hanging = true;
    } else if (strcmp(text, "go") == 0) {
        disk.is_hanging = false;
        pthread_cond_broadcast(&goes);
    } else if (strcmp(text, "lie") == 0) {
        disk.is_lying = true;
    } else if (strcmp(text, "honest") == 0) {
        disk.is_lying = false;
    } else if (sscanf(text, "take %ld", &us) == 1 && us >= 0 && us < 60000000) {
        disk.sync_us = us;
    } else {
        return -EINVAL;
    }
    return 0;
}

/* With the lock held. */
static void wait_while_hanging(void)
{
    disk.hung += disk.is_hanging ? 1 : 0;
    while (disk.is_hanging) {
        pthread_cond_wait(&goes, &lock);
    }
}

static bool is_disk(const char *path)
{
    return strcmp(path, "/disk") == 0;
}

static int power_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    (void)fi;
    memset(st, 0, sizeof *st);
    if (strcmp(path, "/") == 0) {
        st->st_mode = S_IFDIR | 0700;
        st->st_nlink = 2;
        return 0;
    }
    if (!is_disk(path) && strcmp(path, "/control") != 0) {
        return -ENOENT;
    }
    st->st_mode = S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = is_disk(path) ? (off_t)disk.size : 0;
    return 0;
}

static int power_open(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    fi->direct_io = 1; /* A cut changes content without a write: nothing may be cached above. */
    return 0;
}

static int power_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    (void)fi;
    return is_disk(path) && (size_t)size != disk.size ? -EPERM : 0; /* The shell's > truncates. */
}

static int read_control(char *buf, size_t len, off_t off)
{
    char text[400];
    pthread_mutex_lock(&lock);
    int n = snprintf(text, sizeof text,
                     "writes %llu\nsyncs %llu\ncuts %llu\ndropped %llu\nkept %llu\nerrors %llu\n"
                     "read_errors %llu\nslow %llu\nhung %llu\nunsynced %zu\n",
                     (unsigned long long)disk.writes, (unsigned long long)disk.syncs,
                     (unsigned long long)disk.cuts, (unsigned long long)disk.dropped,
                     (unsigned long long)disk.kept, (unsigned long long)disk.errors,
                     (unsigned long long)disk.read_errors, (unsigned long long)disk.slow,
                     (unsigned long long)disk.hung, disk.log_len);
    pthread_mutex_unlock(&lock);
    if (n < 0 || off >= n) {
        return 0;
    }
    size_t rest = (size_t)(n - off);
    len = len < rest ? len : rest;
    memcpy(buf, text + off, len);
    return (int)len;
}

static int power_read(const char *path, char *buf, size_t len, off_t off, struct fuse_file_info *fi)
{
    (void)fi;
    if (!is_disk(path)) {
        return read_control(buf, len, off);
    }
    if ((size_t)off >= disk.size) {
        return 0;
    }
    len = len < disk.size - (size_t)off ? len : disk.size - (size_t)off;
    pthread_mutex_lock(&lock);
    wait_while_hanging();
    bool is_error = disk.is_off || disk.is_unreadable;
    if (is_error) {
        disk.read_errors++;
    } else {
        memcpy(buf, disk.now + off, len);
    }
    pthread_mutex_unlock(&lock);
    return is_error ? -EIO : (int)len;
}

static int power_write(const char *path, const char *data, size_t len, off_t off,
                       struct fuse_file_info *fi)
{
    (void)fi;
    if (!is_disk(path)) {
        char text[64];
        if (len == 0 || len >= sizeof text) {
            return -EINVAL;
        }
        memcpy(text, data, len);
        text[len] = '\0';
        text[strcspn(text, "\n")] = '\0';
        pthread_mutex_lock(&lock);
        int rv = command(text);
        pthread_mutex_unlock(&lock);
        return rv == 0 ? (int)len : rv;
    }
    if ((size_t)off >= disk.size || len > disk.size - (size_t)off) {
        return -ENOSPC;
    }
    pthread_mutex_lock(&lock);
    wait_while_hanging();
    int rv = (int)len;
    if (disk.is_off || disk.is_failing) {
        disk.errors++;
        rv = -EIO;
    } else {
        disk.writes++;
        memcpy(disk.now + off, data, len);
        log_add((size_t)off, data, len);
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

static int power_fsync(const char *path, int is_data, struct fuse_file_info *fi)
{
    (void)is_data;
    (void)fi;
    if (!is_disk(path)) {
        return 0;
    }
    pthread_mutex_lock(&lock);
    wait_while_hanging();
    uint64_t cuts = disk.cuts;
    uint64_t end = disk.log_base + disk.log_len;
    long us = disk.sync_us;
    pthread_mutex_unlock(&lock);
    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    pthread_mutex_lock(&lock);
    disk.slow += us >= SLOW_US ? 1 : 0;
    int rv = 0;
    if (disk.is_off || disk.is_failing || disk.cuts != cuts) {
        disk.errors++;
        rv = -EIO;
    } else {
        disk.syncs++;
        if (!disk.is_lying) {
            log_sync(end);
        }
    }
    pthread_mutex_unlock(&lock);
    return rv;
}

static uint8_t *memory(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        die("mmap");
    }
    return p;
}

static const struct fuse_operations operations = {
    .getattr = power_getattr,
    .open = power_open,
    .read = power_read,
    .write = power_write,
    .fsync = power_fsync,
    .truncate = power_truncate,
};

int main(int argc, char **argv)
{
    long mebibytes = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (mebibytes < 1 || mebibytes > 65536) {
        fprintf(stderr, "usage: power_disk FOLDER MEBIBYTES\n");
        return 2;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        die("prctl");
    }
    disk.size = (size_t)mebibytes << 20;
    disk.now = memory(disk.size);
    disk.synced = memory(disk.size);
    char *words[] = {argv[0], argv[1], "-f", "-o", "max_threads=8", NULL};
    return fuse_main(5, words, &operations, NULL);
}
