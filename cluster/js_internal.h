/* What the parts of JetStream in a node share. Only js_*.c include this.
 *
 *   js_engine.c   WAL, host, store: start, turns, ticks, frames to and from peers
 *   js_flush.c    the flush ladder of all streams and of meta
 *   js_meta.c     the meta group: who is there, which streams, where
 *   js_meta_image.c  meta's state as a whole, fetched from another node
 *   js_meta_members.c  who belongs to the cluster and replicates the meta group
 *   js_birth.c    how the meta group comes to be
 *   js_stream.c   one replica of a stream: log entries into the machine, effects into the store
 *   js_leader.c   what only the leader of a stream does: deliveries, administration, effects
 *   js_members.c  replicas that come and go
 *   js_move.c     leaderships handed over: to whom, and all of them before a stop
 *   js_spread.c   leaders spread again after nodes came and went
 *   js_propose.c  its ops become entries: open batch, what waits behind it, publishes of lanes
 *   js_read.c     reads that the leadership is proven for; js_api_proof.c requests that are such
 *   js_send.c     messages on their way out
 *   js_mend.c     damaged blocks are mended with what other replicas have
 *   js_rebuild.c  replicas that are broken or differ are set aside and built anew
 *   js_scrub.c    looks for damage before readers find it
 *   js_image.c    catch-up of a replica by image
 *   js_disk.c     whether the disk is stuck or slow
 *   js_reserve.c  whether there is room on it
 *   js_clock.c    which time it is
 *   js_version.c  machine versions raised
 *   js_lane.c     publishes from this node to the leaders, numbered and resent
 *   js_pull.c     pull requests passed on, and what their clients hear when the leader goes
 *   js_batch.c    items to and from other nodes, one frame per node and turn
 *   js_api.c      $JS.API, wherever it is asked; js_api_*.c the requests
 *   js_calls.c    requests under way, asked again when their leader is gone
 *   js_limits.c   what this node stores at most
 *   js_monitor.c  /jsz, /replicaz and what /healthz asks
 *
 * Loop thread only, but for what runs on the pool in js_flush.c and js_image.c. */
#ifndef CLUSTER_JS_INTERNAL_H
#define CLUSTER_JS_INTERNAL_H

#include "broker/consumer.h"
#include "broker/delivery.h"
#include "broker/entry.h"
#include "broker/log_time.h"
#include "broker/meta.h"
#include "broker/stream.h"
#include "cluster/flush_pace.h"
#include "cluster/js.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/pace.h"
#include "cluster/peers.h"
#include "cluster/router.h"
#include "raft/host.h"
#include "storage/base/arena.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"
#include "storage/store.h"
#include "storage/wal_thread.h"

#define JS_PEER_TYPE_BATCH (PEERS_TYPE_USER + 0)
#define JS_PEER_TYPE_BIRTH (PEERS_TYPE_USER + 1)
#define JS_TICK_MS 20
#define JS_BATCH_BYTES (256u * 1024)    /* An open batch closes at this, or at one op. */
#define JS_LEADERLESS_MS 5000           /* So long a publish waits for a leader. */
#define JS_API_WAIT_MS 4000             /* So long a request waits for one. */
#define JS_MESSAGE_BYTES_MAX (8u << 20) /* Headers and payload of a stream's message. */
#define JS_CLOSED_BYTES_MAX (64u << 20) /* Batches that wait for their group, per stream. */
#define JS_SENDS_MAX 8192u              /* Messages that wait for a disk read, per stream. */
#define JS_LANE_SENT_MAX                                                                           \
    STREAM_LANE_ANSWERS                    /* Sent and not answered: the answers a stream keeps. */
#define JS_LANE_SENT_BYTES_MAX (8u << 20)  /* Same. */
#define JS_LANE_MESSAGES_MAX 4096u         /* Held, per stream, before publishers are paused. */
#define JS_LANE_BYTES_MAX (16u << 20)      /* Same. */
#define JS_NODE_LANE_BYTES_MAX (64u << 20) /* Same, of all streams. */
#define JS_FLUSH_AFTER_MS 5000

struct js;
struct js_stream;

/* ---- Items between nodes (js_batch.c) ---- */

enum js_item_type {
    JS_ITEM_PUBLISH = 1,   /* gid, n, subject, reply-less message */
    JS_ITEM_ANSWER = 2,    /* gid, n, result */
    JS_ITEM_LEADER = 3,    /* gid, term: the sender leads the stream */
    JS_ITEM_API = 4,       /* a request for whom the sender thinks responsible */
    JS_ITEM_REPLY = 5,     /* its reply, for a client of the receiver or of another node */
    JS_ITEM_ACK = 6,       /* a message on an ack subject */
    JS_ITEM_DELIVER = 7,   /* a message of a stream for a subscriber at the receiver */
    JS_ITEM_DIGEST = 8,    /* gid, index, machine version, hash of the sender's replica there */
    JS_ITEM_MOVE = 9,      /* gid, node: meta's leader asks the stream's to hand over to it */
    JS_ITEM_MEMBERS = 10,  /* gid, placement, index, count, members: of a leader, for meta */
    JS_ITEM_LOST = 11,     /* gid, raft id: the sender has lost this replica */
    JS_ITEM_MEND_ASK = 12, /* gid, question, count, ranges of sequences the sender lacks */
    JS_ITEM_MENDED = 13,   /* gid, question, where it goes on, records and verdicts */
    JS_ITEM_CHECK = 14,    /* gid: something damaged came from the receiver, it is to look */
    JS_ITEM_DIVERGED = 15, /* gid, index, machine version, hash of the majority there */
};

/* ---- A stream on this node ---- */

/* A message that waits for its block to be read. */
struct js_send;

/* An administrative request that waits for its op to be applied. */
struct js_request {
    uint64_t id;
    uint64_t node_id; /* Who asked, */
    char *inbox;      /* and where the answer goes; NULL: nobody waits. */
    char *name;       /* Consumer, where it matters. */
    const char *type; /* Of the reply. */
    uint64_t meta_index;
    bool is_create;
    UT_hash_handle hh; /* By id. */
    struct list link;  /* In created_for. */
};

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

/* What images are made of and for: the first member of a stream, and of struct js for meta. */
struct js_image_of {
    struct js *js;
    uint64_t gid;
    uint64_t sid;
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
    struct list turn;  /* In js->turn_streams while something is to do. */
    struct list sends; /* struct js_send, in order. */
    size_t sends_count;
    struct list reads; /* struct js_read, in order: wait for a proof. */

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

/* ---- The node's JetStream ---- */

struct js_lane;

/* What this node knows of who leads a stream. */
struct js_leader {
    uint64_t gid;
    uint64_t node_id; /* 0: nobody known. */
    uint64_t term;
    uint64_t since_ms;   /* As known here. */
    uint64_t refused_ms; /* When a move away came to nothing, on meta's leader; 0: never. */
    UT_hash_handle hh;
};

/* How many streams a node leads. */
struct js_load {
    uint64_t node_id;
    size_t leaders;
};

/* How the WAL's disk does (js_disk.c). */
struct js_disk {
    uint64_t counts[WAL_SYNC_BUCKETS]; /* At the last look. */
    uint64_t looked_ms;
    uint64_t sync_us; /* Median of the last window that had syncs; 0: none for a while. */
    uint64_t synced_ms;
    unsigned slow_count; /* Windows in a row that were slow, */
    unsigned fine_count; /* or were not. */
    bool is_slow;
    bool is_stuck;
};

/* Which time it is (js_clock.c). */
struct js_clock {
    struct agreed_time agreed;
    int64_t wall_offset_ns; /* By which the wall clock is ahead of the node's. */
    uint64_t looked_ms;
    uint64_t skew_told_ms;
    bool is_skew_told;
    bool is_wall_told;
};

/* By enum stream_storage, of this node's replicas. */
struct js_limits {
    uint64_t looked_ms;
    uint64_t used_bytes[2];
    uint64_t reserved_bytes[2];
};

/* Room on the disk (js_reserve.c). */
struct js_reserve {
    int fd;         /* Of the file; -1: not known how full the disk is. */
    uint64_t bytes; /* That publishes may not use. */
    uint64_t avail_bytes;
    uint64_t file_bytes; /* Of it as a file, and at most. */
    uint64_t file_bytes_max;
    uint64_t looked_ms;
    unsigned full_peers; /* Nodes that said they are full, or behind with flushing. */
    bool is_low;         /* Less than the reserve is left; */
    bool is_full;        /* less than half of it. */
};

struct js {
    struct js_image_of image_of; /* Meta. */
    struct node_context *ctx;
    struct loop *loop;
    char *dir; /* <store_dir>/weir */

    /* js_engine.c */
    struct wal *wal;
    struct wal_thread *wal_thread;
    uint64_t start_lsn; /* peers_health.start_lsn */
    struct raft_host *host;
    struct store *store;
    struct loop_timer *tick;
    struct js_limits limits;
    struct js_disk disk;
    struct js_reserve reserve;
    struct js_clock clock;
    struct pace pace_send; /* Of images. */
    struct pace pace_take;
    struct loop_async *durable;
    unsigned lock_depth;
    uint64_t create_lsn_max; /* Of CREATE records: meta may not be flushed past them before. */
    uint64_t origin;         /* Of this node's lanes: larger with each start, and never the same
                              * again even on a disk that was rolled back. */
    uint64_t epoch;          /* Tokens and request ids: unique in this process. */
    bool is_stopping;

    /* js_flush.c */
    struct store_flush *flush;
    int flush_status;
    int flush_errno;
    uint64_t flush_base_lsn;  /* BASE records of the last pass, */
    uint64_t flush_pass;      /* which store_base_durable waits for. */
    uint64_t flush_stage_gid; /* The pass switches this stream to a fetched image. */
    loop_cb flush_stage_done;
    void *flush_stage_arg;
    bool is_flush_wanted;
    unsigned restores_count; /* Machines made off the loop: no pass begins. */
    uint64_t flush_began_ms;
    struct flush_pace flush_pace;

    /* js_meta.c */
    struct meta *meta;
    struct raft_group *meta_group;
    struct store_stream *meta_store;
    uint64_t meta_index; /* Applied. */
    uint64_t meta_term;
    uint64_t meta_flushed_index;
    bool is_meta_leader;
    uint64_t meta_leader_id; /* 0: unknown. */
    uint64_t meta_leader_term;
    uint64_t meta_led_ms;   /* Since when this node leads it. */
    struct list meta_reads; /* struct js_read, as a stream's. */
    bool is_meta_flushing;
    bool is_meta_failed;
    int64_t meta_dirty_since_ms;
    struct interest *subjects; /* Of all streams; the owner is the meta_stream. */
    struct js_subjects *stream_subjects;
    struct list actions; /* Replicas to start and to end. */
    /* A fetched state of meta is in place, but not every replica it brought: those from this raft
     * id on that the WAL does not know are new, not lost. 0: no such time. */
    uint64_t meta_new_from;
    bool is_meta_switching;
    uint64_t node_report_ms;
    uint64_t members_ms;
    uint64_t rebuild_ms;

    struct js_birth *birth; /* js_birth.c; NULL without peers. */

    /* js_stream.c */
    struct js_stream *streams; /* By gid. */
    struct list turn_streams;

    /* js_lane.c */
    struct js_lane *lanes; /* By gid. */
    struct js_leader *leaders;
    uint64_t lane_bytes;
    struct arena lane_memory;

    /* js_move.c */
    struct js_load loads[PEERS_MAX + 1]; /* Counted in loads_turn. */
    unsigned loads_count;
    uint64_t loads_turn;
    unsigned moves_under_way;
    unsigned leaderships_left; /* While all are given away: still to go, */
    unsigned leaderships_kept; /* and those that nobody can take. */

    /* js_spread.c */
    uint64_t liveness_ms; /* When a node came or went last. */
    uint64_t spread_gid;  /* The move under way; 0: none. */
    uint64_t spread_to;
    uint64_t spread_ms;

    /* js_pull.c */
    struct js_pull *pulls; /* By inbox. */
    struct list pulls_list;
    size_t pulls_due;
    uint64_t pulls_swept_ms;

    /* js_batch.c */
    struct js_out *outs;   /* By node. */
    unsigned paused_peers; /* Whose connection has much to send: nothing is delivered meanwhile. */

    /* js_scrub.c */
    struct js_scrub {
        bool is_reading;
        bool is_journal_due; /* Of this pass. */
        struct store_check journal;
        struct store_read read;
        uint64_t gid; /* Being checked; 0: between two passes. */
        uint64_t seq; /* From here on. */
        uint64_t read_gid;
        uint64_t next_seq; /* Behind the block that is being read. */
        uint64_t next_ms;  /* When the rate allows the next block. */
        uint64_t began_ms; /* The pass; 0: none yet. */
        uint64_t urgent_gid;
        uint64_t urgent_seq;
        uint64_t passes; /* Completed. */
        uint64_t blocks; /* Checked since the start, */
        uint64_t bytes;
        uint64_t damaged;         /* and found damaged. */
        uint64_t journal_checks;  /* Both copies of the journal, */
        uint64_t journal_damaged; /* and found damaged in one. */
    } scrub;

    /* js_mend.c */
    unsigned mends_count;
    struct list serves;
    unsigned serves_count;

    /* js_api.c */
    struct list api_waiting;
    size_t api_waiting_count; /* Without acks. */
    size_t acks_waiting_count;
    bool is_api_woken;
    struct js_call *calls; /* js_calls.c, by inbox. */
    struct list calls_list;
    uint64_t calls_ms;
    struct list lists; /* STREAM.LIST under way. */
    struct router_internal *api_sub;
    struct router_internal *ack_sub;
    char health_text[400];
    uint64_t api_total;
    uint64_t api_errors;
};

/* ---- js_engine.c ---- */

/* Around every call of raft/host.h: the writer thread takes batches under this lock. Nests. */
void js_lock(struct js *js);
void js_unlock(struct js *js);
/* A number that this process never gave before, not 0. */
uint64_t js_next_id(struct js *js);
/* The write-ahead log with what its groups have, and the store, of js->dir; js->ctx says whose.
 * Logs what fails. */
int js_open_files(struct js *js, uint64_t now_ms);
/* The node cannot go on: log what and why, and stop the process. */
_Noreturn void js_die(struct js *js, const char *what, int err, int errno_value, const char *path);

/* ---- js_disk.c ---- */
void js_disk_tick(struct js *js);
/* Slow, or short of room: leaderships are better elsewhere. */
bool js_disk_is_poor(const struct js *js);

/* ---- js_reserve.c ---- */
/* Before the log is opened: it may need the room. */
void js_reserve_start(struct js *js);
void js_reserve_close(struct js *js);
void js_reserve_tick(struct js *js);
/* Whether publishes to a stream that this node leads are refused for want of room. */
bool js_reserve_refuses(const struct js_stream *st);
/* How much of them is taken now: what is unflushed, here or at a member, is more than its disk
 * writes soon, or all that memory is to hold. */
enum js_room { JS_ROOM_ALL, JS_ROOM_LITTLE, JS_ROOM_NONE };
enum js_room js_reserve_room(const struct js_stream *st);
/* The reserve on a disk of @total_bytes; @option_bytes as configured, -1: not. */
uint64_t js_reserve_of(int64_t option_bytes, uint64_t total_bytes);

/* ---- js_version.c ---- */
/* Of a stream that is led here. */
void js_version_tick(struct js_stream *st);
/* By which rules entries of meta may be proposed: those that all members know, or that are in
 * force. */
unsigned js_version_of_meta(struct js *js);
/* Why a replica does not go on, for logs. */
const char *js_version_error_text(int rv);

/* ---- js_clock.c ---- */
void js_clock_tick(struct js *js);
/* The agreed time, or this node's while there is none. */
int64_t js_now_ns(const struct js *js);
/* What the stream's log says it is: for stamps, and for all that is due by them. */
int64_t js_stream_now_ns(struct js_stream *st);
/* The machine took an entry. */
void js_stream_time_applied(struct js_stream *st);
/* Of a new leader: log what its clients should know. */
void js_clock_tell_stream(struct js_stream *st);
/* Behind LEAD in the open batch: whether the time is known is seen when that is applied. */
void js_clock_lead(struct js_stream *st);
/* The leader has applied an entry of its own. */
void js_clock_applied(struct js_stream *st);
/* Looks whether what is known of the time has changed; true: there is an op in the open batch. */
bool js_clock_leads(struct js_stream *st);
json_t *js_clock_json(struct js *js);

/* ---- js_flush.c ---- */
void js_flush_tick(struct js *js);
/* A pass is under way, or a machine is made of what one put in place: no stream may end. */
bool js_flush_is_busy(const struct js *js);
/* Flush everything soon; returns false if that is so. */
bool js_flush_now(struct js *js);
/* A pass that makes @stage the stream's content; @done(@arg) after it. False: try again later. */
bool js_flush_stage(struct js *js, uint64_t gid, struct store_stage *stage, loop_cb done,
                    void *arg);
/* Blocks are written more slowly than messages come: none are to be taken until it has caught up.
 */
bool js_flush_is_behind(const struct js *js);
/* What is to be written takes the disk a while: few are to be taken. */
bool js_flush_is_lagging(const struct js *js);
/* The WAL is durable up to @lsn. */
void js_flush_durable(struct js *js, uint64_t lsn);
/* Wait for a pass that runs; at shutdown. */
void js_flush_stop(struct js *js);

/* ---- js_meta.c ---- */
int js_meta_start(struct js *js);
void js_meta_stop(struct js *js);
/* The stream that a subject belongs to, or NULL. */
const struct meta_stream *js_meta_stream_of(struct js *js, struct slice subject);
/* Propose an entry made by meta_encode_*. ERR_NOTLEADER and what group_propose says. */
int js_meta_propose(struct js *js, struct slice entry);
void js_meta_tick(struct js *js);
/* Create the group: this node is one of the first members, with @raft_id. */
int js_meta_birth(struct js *js, const struct group_member *members, unsigned members_count,
                  uint64_t raft_id);
/* The replica here goes, its stream stays: outside of the host's callbacks. */
void js_meta_leave(struct js *js, uint64_t gid);
/* An empty replica of meta, in a cluster that there is. */
int js_meta_join(struct js *js, uint64_t raft_id);
/* Start and end replicas as meta has decided; not from inside a callback of the host. */
void js_meta_actions(struct js *js);
/* Every CREATE is durable that meta's durable state may rest on. */
bool js_meta_is_born(const struct js *js);
struct meta_events js_meta_events(struct js *js);
/* The replica of @s, if it is to be here, starts at the end of the turn; or ends. */
void js_meta_begin_stream(struct js *js, const struct meta_stream *s);
void js_meta_end_stream(struct js *js, const struct meta_stream *s);
/* The stream's description was replaced: @old points to what is gone soon. */
void js_meta_replace_stream(struct js *js, const struct meta_stream *old,
                            const struct meta_stream *s);
/* Items of the store into a new machine. */
int js_meta_load(struct js *js, const struct meta_events *events);

/* ---- js_meta_image.c ---- */
/* Before the fetched state is switched to. */
void js_meta_image_begin(struct js *js);
/* The store has it: take it. */
int js_meta_image_adopt(struct js *js);
/* Go on with an adoption that a crash interrupted. */
int js_meta_image_start(struct js *js);
void js_meta_image_tick(struct js *js);
/* What the WAL knew of a group when it was opened. */
bool js_group_found(struct js *js, uint64_t gid, struct group_found *ret_found);
const char *js_node_name(struct js *js, uint64_t node_id);
/* This node, or one that is connected. */
bool js_node_is_up(struct js *js, uint64_t node_id);
void js_peer_id(struct js *js, uint64_t node_id, char ret_text[9]);

/* ---- js_meta_members.c ---- */
/* On the leader of meta. */
void js_meta_members_tick(struct js *js);

/* ---- js_birth.c ---- */
/* A node that belongs to no cluster is told to join this one, with its raft id in meta. */
void js_birth_invite(struct js *js, const struct peers_info *info, uint64_t raft_id);
/* Its start is not the @boot_count-th or a later one, or its log did not reach @lsn then: it lost
 * what it acknowledged. */
void js_birth_tell_rolled_back(struct js *js, uint64_t node_id, uint64_t boot_count, uint64_t lsn);
/* It belongs to this cluster, by its own word. */
bool js_birth_is_ours(const struct js *js, const struct peers_info *info);
int js_birth_start(struct js *js);
/* Offline: does the node belong to a cluster? ERR_NOTFOUND: to none; ERR_CORRUPT, ERR_IO. */
int js_birth_look(struct js *js);
/* Offline: from now on it belongs to a cluster of its own, with a new uuid, durably: no node of the
 * old one is let in any more. */
int js_birth_renew(struct js *js);
void js_birth_tick(struct js *js);
/* Who is waited for, as a list of routes; "" when nobody is. */
const char *js_birth_missing(const struct js *js);
void js_birth_close(struct js *js);

/* ---- js_stream.c ---- */
/* Start the replica of @s that lives here. @is_new: from a meta entry above what is durable. */
void js_stream_start(struct js *js, const struct meta_stream *s, bool is_new);
/* Stop it. */
enum js_stop {
    JS_STOP_NODE,    /* The node stops. */
    JS_STOP_DELETED, /* The stream is deleted, and its data with it. */
    JS_STOP_LEFT,    /* Only the replica here goes, with its data. */
};
/* On the pool; nothing else knows the machine any more. */
void js_stream_free_machine(struct js_stream *st);
void js_stream_stop(struct js_stream *st, enum js_stop why);
struct js_stream *js_stream_find(struct js *js, uint64_t gid);
void js_stream_dirty(struct js_stream *st);

/* The machine from what the store holds, off the loop; @done(@arg, status) on it. ERR_CORRUPT with
 * a machine: messages are missing. The stream is LOADING meanwhile, and stays. */
typedef void (*js_restored_cb)(void *arg, int status);
void js_stream_restore_apart(struct js_stream *st, js_restored_cb done, void *arg);
/* Which messages are live is known now: restore the machine, and join the group. No pass is at work
 * (js_flush_is_busy). */
void js_stream_mended(struct js_stream *st);

/* ---- js_image.c ---- */
void js_image_fsm(struct group_fsm *fsm);
void js_image_tick(struct js *js);
/* From its proposal to its being applied: images go at a pace that does not double it. */
void js_image_publish_took(struct js *js, int64_t took_ns);

/* ---- js_leader.c ---- */
void js_leader_open(struct js_stream *st); /* The machine is there. */
/* The replica's role or term changed. */
void js_leader_role(struct js_stream *st, const struct group_role *role);
void js_leader_effects(struct js_stream *st, uint64_t token);
/* Something is to do for the stream at the end of this turn. */
void js_leader_turn_wanted(struct js_stream *st);
void js_leader_turns(struct js *js); /* LOOP_PHASE_PROPOSE */
void js_leader_tick(struct js *js);
void js_leader_lost(struct js_stream *st, uint64_t token);
/* The stream is deleted: tell those who wait for its messages. */
void js_leader_deleted(struct js_stream *st);
void js_leader_close(struct js_stream *st);
/* Answer a publish. */
void js_leader_answer(struct js_stream *st, const struct effect_reply *e);
/* So much is under way that a request must be turned away. */
bool js_leader_is_busy(const struct js_stream *st);

/* ---- js_members.c ---- */
#define JS_MEMBERS_TOKEN UINT64_MAX /* Of its ReadIndex; others have one of js_next_id(). */
void js_members_tick(struct js *js);
/* The leadership of the stream is proven, or not. */
void js_members_read_done(struct js_stream *st, bool is_ok);
/* Items for the leader of meta. */
void js_members_take(struct js *js, struct reader *r);
void js_members_take_lost(struct js *js, uint64_t node_id, struct reader *r);
/* Ask meta's leader to replace the replica here; again as long as it has not. */
void js_members_tell_lost(struct js_stream *st, const struct meta_stream *s);
/* A replica that may have lost something of its log is told who may be a member of its group, once
 * meta here is level: until then it neither votes nor leads (raft/vote.c, G19). */
void js_members_tell_known(struct js_stream *st, const struct meta_stream *s);
/* The replica is not wanted here, and is no member of its group. */
bool js_members_may_leave(const struct js_stream *st, const struct meta_stream *s);

/* ---- js_move.c ---- */
enum js_move {
    JS_MOVE_NONE,   /* Not led here, or it has no other member. */
    JS_MOVE_NOBODY, /* No other node could take it. */
    JS_MOVE_LATER,  /* Nobody can now. */
    JS_MOVE_BEGUN,  /* Now, or before. */
};
/* If the group is led here, hand it to who is best for it. To be tried again until it is not. */
enum js_move js_move_away(struct js *js, struct raft_group *group);
/* The same among those that have all the tags, in this cluster. */
enum js_move js_move_where(struct js *js, struct raft_group *group, const struct placement *where);
/* To the voter on @node_id, by the caller's choice. */
enum js_move js_move_to(struct js *js, struct raft_group *group, uint64_t node_id);
/* Is the replica on @node_id a voter with all of the log, on a node that is up, stays and is not
 * slow? On the leader. */
/* Its disk is slow or its clock wrong. */
bool js_move_is_poor(const struct peers_info *info);
bool js_move_is_poor_here(const struct js *js);
bool js_move_is_fit(struct js *js, struct raft_group *group, uint64_t node_id);
/* How many streams the node leads, as far as known here. */
size_t js_move_load(struct js *js, uint64_t node_id);
void js_move_tick(struct js *js);

/* ---- js_spread.c ---- */
void js_spread_tick(struct js *js);
void js_spread_asked(struct js *js, uint64_t gid, uint64_t to);

/* ---- js_propose.c ---- */
/* A leadership begins: LEAD is the first op. What was gathered before is void. */
void js_propose_begin(struct js_stream *st);
void js_propose_close(struct js_stream *st);
/* Ops were appended to st->batch: to be called after each. */
void js_propose_grown(struct js_stream *st);
void js_propose_turn(struct js_stream *st);
/* The group takes nothing, and much waits. */
bool js_propose_is_full(const struct js_stream *st);
/* An answer of this leadership is carried out. */
void js_propose_answered(struct js_stream *st, const struct effect_reply *e);
/* A message from an origin's lane. Slices are borrowed. */
void js_leader_publish(struct js_stream *st, uint64_t node_id, uint64_t origin, uint64_t n,
                       const struct router_msg *msg);
void js_leader_ack(struct js_stream *st, uint64_t node_id, const struct router_msg *msg);
/* A request whose op is appended now; fill in the rest. */
struct js_request *js_leader_request(struct js_stream *st, uint64_t node_id, struct slice inbox,
                                     const char *type);

/* Answer a stream's creation with its info, now or when it is led; takes @r over. */
void js_leader_answer_created(struct js_stream *st, struct js_request *r);
/* Meta has a new configuration for the stream. */
void js_leader_config(struct js_stream *st, const struct stream_config *config,
                      const struct meta_asker *asker, uint64_t meta_index);

/* ---- js_read.c ---- */
/* Proves that @group is led here as of now and calls @cb when all is applied that was committed at
 * the call, or with false: not the leader any more, or nobody confirms it. @reads are those of the
 * group. @arg must be freed by @cb. */
typedef void (*js_proven_cb)(void *arg, bool is_proven);
void js_read_now(struct js *js, struct raft_group *group, struct list *reads, js_proven_cb cb,
                 void *arg);
/* The round for @token is over, @applied being applied. */
void js_read_proven(struct list *reads, uint64_t token, bool is_ok, uint64_t index,
                    uint64_t applied);
/* The applied index has grown. */
void js_read_applied(struct list *reads, uint64_t applied);
void js_read_close(struct list *reads);

/* ---- js_send.c ---- */
void js_send_deliver(struct js_stream *st, const struct effect_deliver *d);
void js_send_close(struct js_stream *st);
/* Read message @seq now or later, then call @cb with 0 and a view, or with ERR_NOTFOUND (it is
 * gone;
 * @st is NULL if the stream is), ERR_CORRUPT: damaged, and no replica gave it in time. @arg must be
 * freed by @cb. */
typedef void (*js_read_cb)(struct js_stream *st, void *arg, int status,
                           const struct store_view *view);
void js_send_read(struct js_stream *st, uint64_t seq, js_read_cb cb, void *arg);

/* What waits for a damaged block may go on. */
void js_send_resume(struct js_stream *st);

/* ---- js_mend.c ---- */
/* Damage was found in the stream, or somebody waits for what is damaged. */
void js_mend_wanted(struct js_stream *st);
void js_mend_tick(struct js *js);
/* No replica has this message undamaged. */
bool js_mend_is_lost(const struct js_stream *st, uint64_t seq);
/* The first such sequence from @seq on; 0: none. */
uint64_t js_mend_next_lost(const struct js_stream *st, uint64_t seq);
void js_mend_close(struct js_stream *st);
void js_mend_stop(struct js *js);
/* Items: a question of @node_id, an answer of it. */
void js_mend_asked(struct js *js, uint64_t node_id, struct reader *r);
void js_mend_take(struct js *js, uint64_t node_id, struct reader *r);

/* ---- js_rebuild.c ---- */
void js_rebuild_tick(struct js *js);
/* The replica here is of no use any more, and stops. */
void js_rebuild_wanted(struct js_stream *st, const char *why);
/* On the leader: another replica's hash at the index of a DIGEST. */
void js_rebuild_digest(struct js_stream *st, uint64_t node_id, const struct effect_digest *theirs);
/* The leader on @node_id says that the majority has this hash, and the replica here another. */
void js_rebuild_judged(struct js_stream *st, uint64_t node_id,
                       const struct effect_digest *majority);

/* ---- js_scrub.c ---- */
void js_scrub_tick(struct js *js);
/* Check the blocks of this stream next, at once: a replica got something damaged from here. */
void js_scrub_stream(struct js *js, uint64_t gid);

/* ---- js_lane.c ---- */
bool js_lane_publish(struct js *js, const struct meta_stream *s, const struct router_msg *msg,
                     const struct router_origin *origin);
struct js_answer {
    uint64_t n;
    uint64_t seq;
    int err_code;
    bool is_duplicate;
    bool is_gap;
    bool is_forgotten;
    uint64_t last_n;
    struct slice text;
};
void js_lane_answer(struct js *js, uint64_t gid, const struct js_answer *a);
void js_lane_leader(struct js *js, uint64_t gid, uint64_t node_id, uint64_t term);
/* @node_id, who was known to lead the stream, does so no more. */
void js_lane_leader_lost(struct js *js, uint64_t gid, uint64_t node_id);
/* 0: none known. */
uint64_t js_lane_leader_of(struct js *js, uint64_t gid);
void js_lane_peer_up(struct js *js, uint64_t node_id);
void js_lane_peer_down(struct js *js, uint64_t node_id);
/* Every publish of this node's clients that was accepted is answered. */
bool js_lane_is_idle(const struct js *js);
void js_lane_forget(struct js *js, uint64_t gid); /* The stream is gone. */
void js_lane_tick(struct js *js);
void js_lane_close(struct js *js);

/* ---- js_pull.c ---- */
/* A pull request of a client of this node was sent to @leader. */
void js_pull_passed_on(struct js *js, uint64_t gid, uint64_t leader, struct slice inbox,
                       struct slice body);
/* A message, a status came for @inbox. */
void js_pull_delivered(struct js *js, struct slice inbox);
void js_pull_status(struct js *js, struct slice inbox, struct slice header);
/* @node_id leads the stream now. */
void js_pull_leader(struct js *js, uint64_t gid, uint64_t node_id);
void js_pull_peer_down(struct js *js, uint64_t node_id);
void js_pull_tick(struct js *js);
void js_pull_close(struct js *js);

/* ---- js_batch.c ---- */
/* Begin an item for @node_id; append its fields to what is returned, then js_batch_end. Items for
 * this node itself are handled at the end of the turn like all others. */
struct buf *js_batch_begin(struct js *js, uint64_t node_id, enum js_item_type type);
void js_batch_end(struct js *js, uint64_t node_id);
void js_batch_put_slice(struct buf *b, struct slice s);
struct slice js_batch_take_slice(struct reader *r);
void js_batch_flush(struct js *js); /* LOOP_PHASE_PROPOSE and _FRAMES */
void js_batch_start(struct js *js);
void js_batch_close(struct js *js);

/* ---- js_api.c ---- */
int js_api_start(struct js *js);
void js_api_close(struct js *js);
void js_api_tick(struct js *js);
/* See to a request of @asker's client: answer it here, or send it on to who can. @hops counts how
 * often it was. */
void js_api_route(struct js *js, uint64_t asker, unsigned hops, const struct router_msg *msg);
/* Send @payload to @inbox on @node_id, once that node has applied @meta_index. */
void js_api_reply(struct js *js, uint64_t node_id, struct slice inbox, uint64_t meta_index,
                  struct slice header, struct slice payload);
/* The same by way of @by_node_id, which passes it on when it has applied @meta_index too. */
void js_api_reply_by(struct js *js, uint64_t by_node_id, uint64_t node_id, struct slice inbox,
                     uint64_t meta_index, struct slice header, struct slice payload);
void js_api_reply_arrived(struct js *js, uint64_t for_node_id, struct slice inbox,
                          uint64_t meta_index, struct slice header, struct slice payload);
/* The meta index moved, or a leader is known: see to what waits. */
void js_api_wake(struct js *js);
/* Info of a stream with a replica here, into an open reply. Of a stream that another node leads it
 * is what this replica knows. */
struct api_paging;
void js_api_print_stream(struct js_stream *st, struct buf *out, const struct api_paging *detail);
void js_api_print_consumer(struct js_stream *st, struct slice name, struct buf *out);

/* ---- js_limits.c ---- */
/* Whether @bytes more of this storage are too much for this node; counts them if not. */
bool js_limits_are_reached(struct js *js, enum stream_storage storage, size_t bytes);
/* Whether a stream that reserves what @c says may be created, as far as this node is concerned. */
bool js_limits_leave_room(struct js *js, const struct stream_config *c);

/* ---- js_api_place.c ---- */
/* Nodes for @wanted replicas of @s: those in @nodes, which stay, and others for the rest of them,
 * but not @except. False: too few are fit; *count says how many there are then. */
bool js_api_add_nodes(struct js *js, const struct meta_stream *s, uint64_t nodes[META_REPLICAS_MAX],
                      size_t *count, size_t wanted, uint64_t except);

/* ---- js_monitor.c ---- */
void js_monitor_start(struct js *js, struct monitor *m);
void js_jsz_start(struct js *js, struct monitor *m);
#endif
