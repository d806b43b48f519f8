/* One replica of a stream: log entries into the machine; its state is in js_state.h. */
#ifndef CLUSTER_JS_STREAM_H
#define CLUSTER_JS_STREAM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/entry.h"
#include "broker/log_time.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/js_internal.h"
#include "raft/host.h"
#include "storage/base/buf.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

struct delivery;
struct js_mend;
struct js_request;
struct js_tail;
struct store_stream;

enum js_stream_state {
    JS_STREAM_OK,
    JS_STREAM_STOPPED, /* At an entry it does not know, or its group stopped. What was applied is
                        * sound, and is flushed, so that it holds no part of the log. */
    JS_STREAM_FAILED,  /* Stopped: damage, or it differs from the others. */
    JS_STREAM_LOST,    /* Born here, and the WAL does not know it. */
    JS_STREAM_MENDING, /* Damage hides which messages are live: the group is not joined yet. */
    JS_STREAM_LOADING  /* A fetched or mended state is there, and the machine is made of it. */
};

struct js_range {
    uint64_t first_seq;
    uint64_t last_seq;
};

struct js_stream {
    struct js_image_of image_of;
    struct js *js;
    uint64_t gid;
    uint64_t sid;
    uint64_t raft_id;
    char *name; /* Of the stream, for logs and replies. */
    char group_name[24];
    enum js_stream_state state;
    struct raft_group *group; /* NULL when lost. */
    struct store_stream *store;
    struct stream *machine;
    struct stream_effects effects;
    struct log_time time;
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t flushed_index; /* Durable in the store. */
    int64_t dirty_since_ms; /* Since when something is not; 0: nothing is. */
    bool is_flushing;
    struct effect_digest digest; /* The last. */
    /* js_version.c */
    uint64_t version_looked_ms;
    uint64_t version_since_ms; /* Since when all know version_wanted, in version_term. */
    uint64_t version_term;
    uint32_t version_wanted;

    uint64_t digest_ms; /* Leader: when it was proposed, */
    struct js_digest {  /* what other members have there, */
        uint64_t node_id;
        uint64_t hash;
        bool is_told; /* That it differs from the majority. */
    } digests[HOST_MEMBERS_MAX];
    unsigned digests_count;
    uint64_t agreed_index; /* and the last index at which all had the same. */
    bool is_loss_told;

    /* js_members.c */
    bool is_watched;        /* Its members change, or did. */
    uint64_t looked_term;   /* The last term in which a leader here compared them with meta's. */
    uint64_t target_placed; /* The placement its group was told. */
    bool is_proving;        /* That it leads, with these members: */
    uint64_t proving_placed;
    uint64_t proving_conf;
    struct meta_peer proving[HOST_MEMBERS_MAX];
    unsigned proving_count;
    uint64_t told_placed; /* What meta's leader was told last, */
    uint64_t told_conf;
    uint64_t told_ms; /* and when. */

    /* Leader only (js_leader.c). */
    bool is_leader; /* By role_changed. */
    bool is_led;    /* LEAD of this term is applied: serves. */
    uint64_t lead_token;
    uint64_t term;
    struct entry_builder batch; /* Open: takes ops. */
    struct list closed;         /* Full, not yet taken by the group; in order. */
    uint64_t closed_bytes;
    struct js_tail *tails;    /* By node. */
    int64_t clock_ns;         /* When the last CLOCK was proposed, in log time. */
    struct buf ack_reply;     /* Scratch. */
    uint32_t proposals_count; /* In flight. */
    uint64_t timed_token;     /* One of them, whose time is taken; 0: none. */
    int64_t timed_ns;
    struct delivery *delivery;
    struct subject_transform *republish; /* Of the configuration; NULL: nothing is. */
    struct list turn;                    /* In js->turn_streams while something is to do. */
    struct list sends;                   /* struct js_send, in order. */
    size_t sends_count;
    struct list reads;  /* struct js_read, in order: wait for a proof. */
    struct js_skipped { /* By a consumer, and not told yet (js_send.c). */
        uint64_t consumer;
        uint64_t first_seq;
        uint64_t last_seq;
        uint64_t count;
        uint64_t since_ms;
    } skipped;

    /* js_rebuild.c */
    bool is_broken; /* To be built anew, once */
    bool is_aside;  /* what it holds is kept elsewhere. */
    bool is_setting_aside;
    uint64_t aside_ms; /* When that was tried. */

    /* js_mend.c */
    struct js_mend *mend; /* The block under way. */
    uint64_t mend_seq;    /* The walk over damaged blocks goes on here, */
    uint64_t mend_ms;     /* not before. */
    bool is_mend_due;
    bool is_mend_new;      /* Damage was found since the walk began. */
    bool is_mend_failed;   /* Of this walk: a block could not be mended, */
    bool is_mend_open;     /* and somebody may have what is missing. */
    struct js_range *lost; /* Damaged on every replica. */
    size_t lost_count;
    uint64_t mended_blocks;
    uint64_t mending_since_ms;
    bool is_new_here;     /* MENDING: as it was to be started. */
    bool is_store_loaded; /* The store may be read. */

    bool is_member_full; /* js_reserve.c */
    bool is_member_behind;
    bool is_member_lagging;
    bool is_job_proposed;
    bool is_clock_proposed;
    bool is_unsure_pending; /* TIME_UNSURE is on its way: stamps run on already. */
    bool is_sure_pending;
    struct js_request *requests;
    /* Who waits for the first leader to answer the creation. */
    struct list created_for;
    unsigned created_for_count;

    UT_hash_handle hh; /* By gid. */
};

/* Start the replica of @s that lives here. @is_new: from a meta entry above what is durable. */
void js_stream_start(struct js *js, const struct meta_stream *s, bool is_new);
/* Stop it. */
enum js_stop {
    JS_STOP_NODE,    /* The node stops. */
    JS_STOP_DELETED, /* The stream is deleted, and its data with it. */
    JS_STOP_LEFT,    /* Only the replica here goes, with its data. */
};
void js_stream_stop(struct js_stream *st, enum js_stop why);
struct js_stream *js_stream_find(struct js *js, uint64_t gid);
void js_stream_dirty(struct js_stream *st);

/* Which messages are live is known now: restore the machine, and join the group. No pass is at work
 * (js_flush_is_busy). */
void js_stream_mended(struct js_stream *st);
#endif
