/* Room on the disk that publishes may not use (design 9).
 *
 * A write that fails for want of room stops the node, so it is not to come to that: while less than
 * the reserve is free, publishes to streams that this node leads are refused (10023), no stream is
 * created, and its leaderships go to nodes with more room. While less than half is free, it says so
 * in heartbeats, and all leaders of streams with a replica here refuse: what is acknowledged has to
 * be stored by followers too. Everything else goes on from the reserve: acks, deletes, purges,
 * terms and votes, members, and the flush that frees the log. When there is room again, publishes
 * are taken again.
 *
 * What is not flushed yet counts as used: it is written once more, into blocks.
 *
 * Part of the reserve, at most half, is a file, so that there is room even when others fill the
 * disk. It gives way slice by slice when nothing else is left, also before the log is opened, and
 * grows again later. Whoever goes on writing takes these slices too in the end: then the node
 * stops.
 *
 * Of a disk of T bytes the reserve is 5 %, at least 256 MiB but no more than a quarter, at most
 * 2 GiB; `jetstream { disk_reserve }` says otherwise. */
#include "cluster/js_reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cluster/js.h"
#include "cluster/js_flush.h"
#include "cluster/js_internal.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/log.h"
#include "storage/store.h"

#define MIB (UINT64_C(1) << 20)
#define LOOK_EVERY_MS 20
#define RESERVE_MIN (256 * MIB)
#define RESERVE_MAX (2048 * MIB)
#define FILE_MAX (128 * MIB) /* What may be unflushed as a rule, and two segments of the log. */
#define SLICE (8 * MIB)
#define TIGHT (16 * MIB) /* Less than this is free: the file gives way. */
#define BACK_MAX (64 * MIB)
#define FILES_RESERVE 256 /* Each flush pass makes some before others go. */

/* False: the file system does not say, and nothing is refused. */
static bool look(struct js_reserve *r, uint64_t *ret_total)
{
    struct statvfs v;
    if (r->fd < 0 || fstatvfs(r->fd, &v) != 0) {
        return false;
    }
    r->avail_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    r->avail_files = v.f_favail;
    r->files = v.f_files / 4 < FILES_RESERVE ? v.f_files / 4 : FILES_RESERVE;
    *ret_total = (uint64_t)v.f_blocks * v.f_frsize;
    return true;
}

uint64_t js_reserve_of(int64_t option_bytes, uint64_t total_bytes)
{
    if (option_bytes >= 0) {
        return (uint64_t)option_bytes;
    }
    uint64_t bytes = total_bytes / 20;
    bytes = bytes < RESERVE_MIN ? RESERVE_MIN : bytes;
    bytes = bytes > total_bytes / 4 ? total_bytes / 4 : bytes;
    return bytes > RESERVE_MAX ? RESERVE_MAX : bytes;
}

static void resize_file(struct js_reserve *r)
{
    uint64_t wanted = r->file_bytes;
    if (r->avail_bytes < TIGHT) {
        wanted = wanted > SLICE ? wanted - SLICE : 0;
    } else if (r->avail_bytes >= r->bytes && r->file_bytes < r->file_bytes_max) {
        wanted = r->file_bytes_max;
    }
    int rv = 0;
    if (wanted > r->file_bytes) {
        rv = fallocate(r->fd, 0, 0, (off_t)wanted);
    } else if (wanted < r->file_bytes) {
        rv = ftruncate(r->fd, (off_t)wanted);
    }
    if (rv != 0) {
        /* Not here, or not now. It is a help, not a need. */
        r->file_bytes_max = errno == EOPNOTSUPP ? 0 : r->file_bytes_max;
        return;
    }
    r->file_bytes = wanted;
}

static void open_file(struct js_reserve *r, const char *dir, int flags)
{
    struct buf path = BUF_EMPTY;
    struct stat st;
    buf_printf(&path, "%s/reserve", dir);
    buf_append_u8(&path, 0);
    r->fd = open((const char *)path.ptr, O_RDWR | O_CLOEXEC | flags, 0640);
    buf_close(&path);
    r->file_bytes = r->fd >= 0 && fstat(r->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void js_make_room(const char *store_dir)
{
    struct js_reserve r = {.bytes = UINT64_MAX};
    struct buf dir = BUF_EMPTY;
    uint64_t total;
    buf_printf(&dir, "%s/weir", store_dir);
    buf_append_u8(&dir, 0);
    open_file(&r, (const char *)dir.ptr, 0);
    buf_close(&dir);
    if (look(&r, &total)) {
        resize_file(&r);
    }
    if (r.fd >= 0) {
        (void)close(r.fd);
    }
}

void js_reserve_start(struct js *js)
{
    struct js_reserve *r = &js->reserve;
    uint64_t total;
    open_file(r, js->dir, O_CREAT);
    if (!look(r, &total)) {
        log_wrn("How full the disk of %s is cannot be told: %s; no reserve is kept", js->dir,
                strerror(errno));
        return;
    }
    r->bytes = js_reserve_of(js->ctx->options->disk_reserve_bytes, total);
    r->file_bytes_max = r->bytes / 2 < FILE_MAX ? r->bytes / 2 : FILE_MAX;
    /* What begins now writes at once: opening the log, and the first terms and votes. */
    resize_file(r);
    log_inf("  Disk Reserve:    %llu MiB of %llu MiB, %llu MiB are free",
            (unsigned long long)(r->bytes / MIB), (unsigned long long)(total / MIB),
            (unsigned long long)(r->avail_bytes / MIB));
}

void js_reserve_close(struct js *js)
{
    if (js->reserve.fd >= 0) {
        (void)close(js->reserve.fd);
    }
    js->reserve.fd = -1;
}

/* Once crossed, a limit is crossed back @more above it: each flush pass first takes room, and then
 * gives back more. */
static bool is_below(uint64_t left, uint64_t limit, uint64_t more, bool is_below_now)
{
    return left <= (is_below_now ? limit + more : limit);
}

static bool is_short_of_bytes(uint64_t left, uint64_t limit, bool is_short_now)
{
    /* No more: segments of the log stay where they are, and a small disk might never get there. */
    return is_below(left, limit, limit / 2 < BACK_MAX ? limit / 2 : BACK_MAX, is_short_now);
}

static bool is_short_of_files(const struct js_reserve *r, uint64_t limit, bool is_short_now)
{
    return r->bytes > 0 && r->files > 0 && is_below(r->avail_files, limit, limit / 2, is_short_now);
}

static void tell_low(struct js *js, bool is_low, uint64_t left)
{
    struct js_reserve *r = &js->reserve;
    r->is_low = is_low;
    if (is_low && is_short_of_files(r, r->files, false)) {
        log_err("The disk of %s is full: it can take %llu more files, and %llu are a reserve. "
                "Publishes are refused, everything else goes on",
                js->dir, (unsigned long long)r->avail_files, (unsigned long long)r->files);
    } else if (is_low) {
        log_err("The disk of %s is full: %llu MiB are left of a reserve of %llu MiB. Publishes are "
                "refused, everything else goes on",
                js->dir, (unsigned long long)(left / MIB), (unsigned long long)(r->bytes / MIB));
    } else {
        log_inf("The disk of %s has room again, %llu MiB: publishes are taken", js->dir,
                (unsigned long long)(left / MIB));
    }
}

static bool count_full(void *arg, const struct peers_info *info)
{
    struct js *js = arg;
    js->reserve.full_peers +=
        info->is_up && (info->is_disk_full || info->is_disk_behind || info->is_disk_lagging);
    return true;
}

/* Whether a member of the group lives where there is no room for more, on disk or in memory. */
static void look_at_members(struct js_stream *st)
{
    struct js *js = st->js;
    struct group_status status;
    struct peers_info info;
    st->is_member_full = st->is_member_behind = st->is_member_lagging = false;
    if (!st->is_led || js->reserve.full_peers == 0) {
        return;
    }
    group_status(st->group, &status);
    for (unsigned i = 0; i < status.members_count; i++) {
        uint64_t id = status.members[i].member.node_id;
        if (id != js->ctx->node_id && peers_get(js->ctx->peers, id, &info) && info.is_up) {
            st->is_member_full = st->is_member_full || info.is_disk_full;
            st->is_member_behind = st->is_member_behind || info.is_disk_behind;
            st->is_member_lagging = st->is_member_lagging || info.is_disk_lagging;
        }
    }
}

static void look_at_peers(struct js *js)
{
    unsigned before = js->reserve.full_peers;
    js->reserve.full_peers = 0;
    if (js->ctx->peers != NULL) {
        peers_each(js->ctx->peers, count_full, js);
    }
    if (before == 0 && js->reserve.full_peers == 0) {
        return;
    }
    for (struct js_stream *st = js->streams; st != NULL; st = st->hh.next) {
        look_at_members(st);
    }
}

void js_reserve_tick(struct js *js)
{
    struct js_reserve *r = &js->reserve;
    uint64_t now_ms = loop_now_ms(js->loop);
    uint64_t total;
    struct store_totals totals;
    if (now_ms - r->looked_ms < LOOK_EVERY_MS) {
        return;
    }
    r->looked_ms = now_ms;
    look_at_peers(js);
    if (!look(r, &total)) {
        return;
    }
    resize_file(r);
    store_totals(js->store, &totals);
    uint64_t left = r->avail_bytes + r->file_bytes;
    left = left > totals.dirty_bytes ? left - totals.dirty_bytes : 0;
    bool is_low =
        is_short_of_bytes(left, r->bytes, r->is_low) || is_short_of_files(r, r->files, r->is_low);
    bool is_full = is_short_of_bytes(left, r->bytes / 2, r->is_full) ||
                   is_short_of_files(r, r->files / 2, r->is_full);
    if (is_low != r->is_low) {
        tell_low(js, is_low, left);
    }
    if (is_full != r->is_full) {
        r->is_full = is_full;
        if (js->ctx->peers != NULL) {
            peers_announce_health(js->ctx->peers);
        }
    }
}

enum js_room js_reserve_room(const struct js_stream *st)
{
    return st->is_member_behind || js_flush_is_behind(st->js)     ? JS_ROOM_NONE
           : st->is_member_lagging || js_flush_is_lagging(st->js) ? JS_ROOM_LITTLE
                                                                  : JS_ROOM_ALL;
}

bool js_reserve_refuses(const struct js_stream *st)
{
    return st->js->reserve.is_low || st->is_member_full;
}
