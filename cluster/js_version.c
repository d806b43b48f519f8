/* Machine versions: by which rules a stream's entries are applied (design 4).
 *
 * Each stream has a version in its state; a new one begins with the oldest whose rules are kept.
 * Its leader proposes VERSION n when every member's node is up and knows n, and has for
 * stands_ms(): until then a rolling upgrade can be taken back, afterwards older builds refuse the
 * stream.
 *
 * Entries of meta say the version they need, each for itself: what older builds cannot know (tags,
 * placement) is somebody's wish, and is proposed once all members know it. */
#include "cluster/js_version.h"

#include <stdlib.h>

#include "broker/entry.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/js_internal.h"
#include "cluster/js_leader.h"
#include "cluster/js_propose.h"
#include "cluster/js_stream.h"
#include "cluster/loop.h"
#include "cluster/peers.h"
#include "raft/host.h"
#include "storage/base/err.h"
#include "storage/base/log.h"

#define LOOK_MS 1000

#ifdef WEIR_NEXT_MACHINE
/* Tests of upgrades do not wait for long, and while they go back it must not happen. */
static uint64_t stands_ms(void)
{
    const char *text = getenv("WEIR_STANDS_MS");
    return text == NULL ? 6000 : strtoull(text, NULL, 10);
}
#else
static uint64_t stands_ms(void)
{
    return 600000;
}
#endif

/* The newest version that all members know by what they said last; 0: not all are up, or, unless
 * @are_up_wanted, have been since this node's start. */
static uint32_t known_by_all(struct js_stream *st, bool are_up_wanted)
{
    struct group_status status;
    uint32_t version = ENTRY_MACHINE_VERSION;
    group_status(st->group, &status);
    for (unsigned i = 0; i < status.members_count; i++) {
        uint64_t node_id = status.members[i].member.node_id;
        struct peers_info info;
        if (node_id == st->js->ctx->node_id) {
            continue;
        }
        if (st->js->ctx->peers == NULL || !peers_get(st->js->ctx->peers, node_id, &info) ||
            (are_up_wanted && !info.is_up)) {
            return 0;
        }
        version = info.machine_version_max < version ? info.machine_version_max : version;
    }
    return version;
}

void js_version_tick(struct js_stream *st)
{
    uint64_t now_ms = loop_now_ms(st->js->loop);
    uint32_t own = stream_machine_version(st->machine);
    if (own == ENTRY_MACHINE_VERSION || now_ms - st->version_looked_ms < LOOK_MS) {
        return;
    }
    st->version_looked_ms = now_ms;
    uint32_t version = known_by_all(st, true);
    if (version != st->version_wanted || st->version_term != st->term) {
        st->version_wanted = version;
        st->version_term = st->term;
        st->version_since_ms = now_ms;
    }
    if (version > own && now_ms - st->version_since_ms >= stands_ms()) {
        st->version_since_ms = now_ms; /* Again only if it was lost. */
        log_inf("Stream %s: all members know machine version %u; it is used from now on", st->name,
                version);
        entry_version(&st->batch, version);
        js_propose_grown(st);
        js_leader_turn_wanted(st);
    }
}

bool js_version_need(struct js_stream *st, uint32_t version)
{
    if (stream_machine_version(st->machine) >= version) {
        return true;
    }
    /* An older build that takes the place of one that is down refuses the stream, and says so. */
    if (known_by_all(st, false) < version) {
        return false;
    }
    entry_version(&st->batch, version);
    return true;
}

unsigned js_version_of_meta(struct js *js)
{
    struct group_status status;
    unsigned in_force = meta_machine_version(js->meta);
    unsigned known = META_MACHINE_VERSION;
    group_status(js->meta_group, &status);
    for (unsigned i = 0; i < status.members_count; i++) {
        uint64_t node_id = status.members[i].member.node_id;
        struct peers_info info;
        if (node_id == js->ctx->node_id) {
            continue;
        }
        if (js->ctx->peers == NULL || !peers_get(js->ctx->peers, node_id, &info)) {
            return in_force; /* It was not here since this node's start. */
        }
        known = info.meta_version_max < known ? info.meta_version_max : known;
    }
    return known > in_force ? known : in_force;
}

const char *js_version_error_text(int rv)
{
    return rv == ERR_VERSION
               ? "its data is of a newer machine version than this build knows; start "
                 "a newer build on this node, nothing is changed or removed"
               : err_text(rv);
}
