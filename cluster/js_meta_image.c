/* Meta's state as a whole, fetched by a node that has missed more of the log than the leader keeps.
 *
 * The state jumps over the entries that made streams, and with it the durable index, before the
 * CREATE records of their replicas here are in the WAL. So that a crash in between does not make
 * them pass for lost (design 6, "born once"), a file says so from before the switch until they are
 * durable: the raft ids from its number on were never given before.
 *
 *   <store_dir>/weir/meta_new_ids:  raft id u64, CRC-32C u32 */
#include "cluster/js_meta_image.h"

#include <stdlib.h>

#include "broker/meta.h"
#include "cluster/js_api.h"
#include "cluster/js_internal.h"
#include "cluster/js_meta.h"
#include "cluster/js_meta_effects.h"
#include "cluster/js_replicas.h"
#include "storage/base/buf.h"
#include "storage/base/crc32c.h"
#include "storage/base/err.h"
#include "storage/base/log.h"
#include "storage/file_ops.h"
#include "storage/small_file.h"
#include "storage/store.h"

#define FILE_NAME "meta_new_ids"

void js_meta_image_begin(struct js *js)
{
    js->is_meta_switching = true;
    if (js->meta_new_from != 0) {
        return; /* Of an earlier one, and lower. */
    }
    struct buf b = BUF_EMPTY;
    js->meta_new_from = meta_next_raft_id(js->meta);
    buf_append_u64(&b, js->meta_new_from);
    buf_append_u32(&b, crc32c(0, b.ptr, b.len));
    int rv = small_file_write(file_ops_posix(), js->dir, FILE_NAME, buf_slice(&b));
    buf_close(&b);
    if (rv != 0) {
        const struct file_ops *ops = file_ops_posix();
        js_die(js, "Writing " FILE_NAME, rv, ops->last_errno(ops->ctx), js->dir);
    }
}

int js_meta_image_start(struct js *js)
{
    uint8_t bytes[16];
    size_t n = 0;
    int rv = small_file_read(file_ops_posix(), js->dir, FILE_NAME, bytes, sizeof bytes, &n);
    if (rv == ERR_NOTFOUND) {
        return 0;
    }
    struct reader r = reader_of(slice_of(bytes, n));
    uint64_t raft_id = reader_u64(&r);
    uint32_t crc = reader_u32(&r);
    if (rv != 0 || r.failed || r.len != 0 || raft_id == 0 || crc != crc32c(0, bytes, 8)) {
        log_err("%s/" FILE_NAME " cannot be read: which replicas are new here is not known",
                js->dir);
        return ERR_CORRUPT;
    }
    js->meta_new_from = raft_id;
    return 0;
}

void js_meta_image_tick(struct js *js)
{
    if (js->meta_new_from == 0 || js->is_meta_switching || !js_replicas_are_born(js)) {
        return;
    }
    int rv = small_file_remove(file_ops_posix(), js->dir, FILE_NAME);
    if (rv != 0) {
        const struct file_ops *ops = file_ops_posix();
        js_die(js, "Removing " FILE_NAME, rv, ops->last_errno(ops->ctx), js->dir);
    }
    js->meta_new_from = 0;
}

int js_meta_image_adopt(struct js *js)
{
    struct meta *old = js->meta;
    js->meta_store = store_find(js->store, META_GID);
    if (js->meta_store == NULL) {
        return ERR_CORRUPT;
    }
    js->is_meta_flushing = false;
    js->meta_dirty_since_ms = 0;
    struct meta_events events = js_meta_events(js);
    int rv = js_meta_load(js, &events);
    if (rv != 0) {
        return rv;
    }
    const struct meta_stream **list = meta_streams_sorted(old);
    size_t count = meta_streams_count(old);
    for (size_t i = 0; i < count; i++) {
        const struct meta_stream *s = meta_stream_by_gid(js->meta, list[i]->gid);
        if (s == NULL) {
            js_meta_end_stream(js, list[i]);
        } else {
            js_meta_replace_stream(js, list[i], s);
        }
    }
    free(list);
    list = meta_streams_sorted(js->meta);
    count = meta_streams_count(js->meta);
    for (size_t i = 0; i < count; i++) {
        if (meta_stream_by_gid(old, list[i]->gid) == NULL) {
            js_meta_begin_stream(js, list[i]);
        }
    }
    free(list);
    meta_free(old);
    js->is_meta_switching = false;
    log_inf("Meta: caught up by image to index %llu", (unsigned long long)js->meta_index);
    js_api_wake(js);
    return 0;
}
