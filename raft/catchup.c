/* Catch-up by image, instead of the core's InstallSnapshot (supplement 3.3, C1 to C8).
 *
 *   leader (offer.c)                              follower (pull.c)
 *   snapshot_get, send(INSTALL) --> image_open
 *   OFFER {id, base, parts} ----------------->    has it already (C3)? --> RESULT, DONE
 *   CHUNK  <---- image_read <-------- PULL        stage_open, stage_write … (table, then the parts)
 *                                                 stage_verify; WAL quiet; C3 again
 *                                                 IMAGE record, durable; C3 again
 *                                                 close, stage_switch, RESET record, durable, load
 *   send completes <---------------- RESULT, DONE
 *
 * The follower's instance runs until the switch (C4): it votes and answers heartbeats. The IMAGE
 * record says, before the store switches, which configuration belongs to the image: after a crash
 * between the switch and RESET the store's base has its configuration from there. */
#include <assert.h>

#include "raft/host_internal.h"

void catchup_say(struct raft_group *g, enum frame_kind kind, uint64_t to, uint64_t node_id,
                 uint64_t id, uint8_t status)
{
    struct out *o = out_new(g, kind, to, node_id);
    o->item.seq = id;
    o->item.flags = status;
    out_push(o);
}

uint64_t catchup_table_bytes(const struct buf *table, uint64_t part)
{
    struct reader r =
        reader_of(slice_from(buf_slice(table), (size_t)part * CATCHUP_TABLE_PART_BYTES));
    return reader_u64(&r);
}

void catchup_item(struct raft_group *g, uint64_t node_id, const struct frame_item *it)
{
    switch (it->kind) {
    case FRAME_OFFER:
        pull_on_offer(g, node_id, it);
        break;
    case FRAME_PULL:
        offer_on_pull(g, node_id, it);
        break;
    case FRAME_CHUNK:
        pull_on_chunk(g, it);
        break;
    case FRAME_NAK:
        pull_on_nak(g, it);
        break;
    default:
        assert(it->kind == FRAME_DONE);
        offer_on_done(g, it);
        break;
    }
}

void catchup_tick(struct raft_group *g)
{
    offer_tick(g);
    pull_tick(g);
}

static bool is_leaders(const struct host_job *job)
{
    return job->kind == JOB_IMAGE_OPEN || job->kind == JOB_IMAGE_READ;
}

void catchup_job_done(struct host_job *job, int status)
{
    assert(job->kind != JOB_IMAGE_OPEN);
    if (is_leaders(job)) {
        offer_image_read(job, status);
    } else {
        pull_job_done(job, status);
    }
}

/* Jobs will not be ended any more: free what they hold. */
void catchup_host_close(struct raft_host *h)
{
    struct list *l;
    while ((l = list_pop_front(&h->jobs)) != NULL) {
        struct host_job *job = container_of(l, struct host_job, link);
        if (is_leaders(job)) {
            offer_forget_job(job);
        } else {
            pull_forget_job(job);
        }
        free(job->buf);
        free(job);
    }
}
