/* What all parts of JetStream in a node know; what each of them does is in its own header, and
 * README.md lists them. Only js_*.c include this.
 *
 * Loop thread only, but for what runs on the pool in js_flush.c and js_image.c. */
#ifndef CLUSTER_JS_INTERNAL_H
#define CLUSTER_JS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/log_time.h"
#include "cluster/flush_pace.h"
#include "cluster/loop.h"
#include "cluster/node.h"
#include "cluster/pace.h"
#include "cluster/peers.h"
#include "storage/base/arena.h"
#include "storage/base/list.h"
#include "storage/store.h"
#include "storage/wal_thread.h"

struct interest;
struct js_birth;
struct js_call;
struct js_lane;
struct js_leader;
struct js_out;
struct js_pull;
struct js_stream;
struct js_subjects;
struct meta;
struct raft_group;
struct raft_host;
struct router_internal;
struct wal;

/* Types of messages between nodes: the items of js_batch.c, and those of js_birth.c. */
#define JS_PEER_TYPE_BATCH (PEERS_TYPE_USER + 0)
#define JS_PEER_TYPE_BIRTH (PEERS_TYPE_USER + 1)

/* What images are made of and for: the first member of a stream, and of struct js
 * for meta. */
struct js_image_of {
    struct js *js;
    uint64_t gid;
    uint64_t sid;
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
    struct pace pace_send; /* Of images. */
    struct pace pace_take;
    struct loop_async *durable;
    unsigned lock_depth;
    uint64_t create_lsn_max; /* Of CREATE records: meta may not be flushed past them before. */
    uint64_t origin;         /* Of this node's lanes: larger with each start, and never the same
                              * again even on a disk that was rolled back. */
    uint64_t epoch;          /* Tokens and request ids: unique in this process. */
    bool is_stopping;

    /* By enum stream_storage, of this node's replicas. */
    struct js_limits {
        uint64_t looked_ms;
        uint64_t used_bytes[2];
        uint64_t reserved_bytes[2];
    } limits;

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
    } disk;

    /* Room on the disk (js_reserve.c). */
    struct js_reserve {
        int fd;         /* Of the file; -1: not known how full the disk is. */
        uint64_t bytes; /* That publishes may not use. */
        uint64_t files; /* Of them likewise; 0: their number has no limit. */
        uint64_t avail_bytes;
        uint64_t avail_files;
        uint64_t file_bytes; /* Of it as a file, and at most. */
        uint64_t file_bytes_max;
        uint64_t looked_ms;
        unsigned full_peers; /* Nodes that said they are full, or behind with flushing. */
        bool is_low;         /* Less than a reserve is left, of bytes or of files; */
        bool is_full;        /* less than half of it. */
    } reserve;

    /* Which time it is (js_clock.c). */
    struct js_clock {
        struct agreed_time agreed;
        int64_t wall_offset_ns; /* By which the wall clock is ahead of the node's. */
        uint64_t looked_ms;
        uint64_t skew_told_ms;
        bool is_skew_told;
        bool is_wall_told;
    } clock;

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
    /* How many streams a node leads. */
    struct js_load {
        uint64_t node_id;
        size_t leaders;
    } loads[PEERS_MAX + 1]; /* Counted in loads_turn. */
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

    /* js_advisory.c */
    struct list advisories;
    size_t advisories_count;
    bool is_meta_own; /* What is applied now this node proposed, as meta's leader. */

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
    struct router_internal *flow_sub;
    char health_text[400];
    uint64_t api_total;
    uint64_t api_errors;
};

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
#endif
