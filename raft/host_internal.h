/* The inside of the group host, shared by its modules; nobody else includes it.
 *
 *   host.c       the host: options, tables, turn, receive, jobs
 *   group.c      the public calls on groups: create, open, move, status; the turn of a group
 *   propose.c    proposals and their tokens
 *   read.c       ReadIndex
 *   group_log.c  a group's side of the WAL: records out, replay in, what is still needed
 *   instance.c   the libraft instance: raft_io, load, start, close, reload
 *   guard.c      after every call into the core; appends; who leads
 *   guard_in.c   what peers say, before the core hears it; the gate
 *   guard_out.c  what the core says, before it leaves
 *   vote.c       votes the host answers itself (G16, G18), suspicion (G11)
 *   outbox.c     what goes to peers: fences, queues, frames, fragments
 *   inbox.c      what comes from peers: decoding into libraft's messages, reassembly
 *   catchup.c    images (C1 to C8): offer.c has the data, pull.c needs it
 *   members.c    changes of members (M1 to M11)
 *   elect.c      ticks, successor order, campaigns
 *   keep.c       which WAL segments may go: checkpoints, flushes, carrying forward */
#ifndef RAFT_HOST_INTERNAL_H
#define RAFT_HOST_INTERNAL_H
#include <raft.h>
#include <stdio.h>

#include "raft/compat.h"
#include "raft/conf.h"
#include "raft/frames.h"
#include "raft/host.h"
#include "raft/records.h"
#include "storage/base/err.h"
#include "storage/base/hash.h"
#include "storage/base/list.h"

#define ITEM_BYTES_MAX (256u * 1024)        /* Larger items travel in fragments. */
#define FRAME_BYTES_SOFT (256u * 1024)      /* A frame is sent once it is larger. */
#define GATE_ITEMS_MAX 1024                 /* Messages waiting in a group's gate. */
#define READS_MAX 4096                      /* ReadIndex requests waiting in a group. */
#define REPLICAS_MAX (2 * HOST_MEMBERS_MAX) /* Known to a group: members and who wrote to it. */
#define CHUNK_BYTES_MAX (512u * 1024)
#define OFFER_SILENCE_MS 6000 /* C2. */
#define PULL_SILENCE_MS 2500  /* C8. */
#define PULL_ALIVE_MS 1500
#define HOLD_HEARD_MS 10000 /* T2. */
#define MOVE_MS 1500        /* M11. */
#define PROBE_AGAIN_MS 100  /* After a refusal, at most so often. */
/* A log that is trimmed for want of room on the node keeps no more. */
#define LOG_TIGHT_ENTRIES 512u
#define LOG_TIGHT_BYTES (1u << 20)
#define BATCH_BYTES_MAX (4u << 20)
#define BATCH_ENTRIES_MAX 512
/* libraft's clock: the embedder's may begin at 0, and timers are set back (compat_expire_timer). */
#define CORE_CLOCK_OFFSET_MS 10000000u
#define WHEEL_SLOTS 50
#define TICK_MS 1000 /* Of each group; one slot of the wheel is a fiftieth. */

_Static_assert(HOST_GUARDS_COUNT < 64, "guards_off has a bit for each, and one more");
#define IS_ON(h, name) (((h)->opt.guards_off & GUARD_BIT(name)) == 0)

/* A configuration as bytes, and where in the log it stands. */
struct conf_at {
    uint64_t index;
    struct buf bytes;
};

/* Base of a group: what the store holds, and the configuration as of it (T3, T4). */
struct base {
    uint64_t index;
    uint64_t term;
    struct conf_at conf;
};

/* One APPEND record in the WAL. */
struct span {
    uint64_t first;
    uint64_t last;
    uint64_t lsn;
};

/* A record that tells of the base: BASE, RESET, CHECKPOINT. Entries below are let go when two in
 * two frames do: if one rots, what it covered is still there. */
struct base_told {
    uint64_t index;
    uint64_t lsn;
};

/* An append in flight: libraft waits for its callback. */
struct append {
    struct list link;      /* In the group's in-flight or held list. */
    struct list host_link; /* In the host's list, in LSN order. */
    struct raft_group *group;
    struct raft_io_append *req;
    raft_io_append_cb cb;
    uint64_t lsn;
    uint64_t first;
    uint64_t last;
    uint64_t term; /* When it was submitted. */
};

/* Something on its way to a peer. */
struct out {
    struct list link;
    struct raft_group *group; /* NULL: not of an instance (TABLE). */
    uint64_t node_id;
    uint64_t fence_lsn;
    enum host_lane lane;
    size_t bytes; /* As counted in the queues. */
    struct frame_item item;
    struct buf owned; /* What item.bytes points to, if it is ours. */
    /* ENTRIES only: libraft's, referenced until the callback. */
    struct raft_io_send *req;
    raft_io_send_cb cb;
    const struct raft_entry *entries;
    unsigned n;
    unsigned next;        /* First entry not yet in a frame. */
    uint64_t fragment_id; /* 0: none begun. */
    uint64_t fragment_off;
    int status; /* Once done. */
};

/* What waits for one peer from one group, in order. */
struct out_queue {
    struct list link; /* In the peer's ring, when not empty. */
    struct list items;
    size_t bytes;
};

/* Reassembly of a large item. */
struct assembly {
    uint64_t gid;
    uint64_t item_id;
    uint64_t total;
    struct buf buf;
    UT_hash_handle hh;
};

struct peer {
    uint64_t node_id;
    struct raft_host *host;
    bool is_up;
    bool is_stuck;           /* Its disk is: it can neither lead nor vote. */
    uint32_t epoch;          /* Counts connections. */
    struct list ring;        /* out_queues that have items. */
    struct out_queue tables; /* Items of no group. */
    struct list bulk;
    size_t bytes;
    size_t bulk_bytes;
    struct assembly *assemblies;
    uint64_t assembly_bytes;
    UT_hash_handle hh;
};

/* A replica of a group, as known here: a member, or one that wrote to us. */
struct replica {
    uint64_t raft_id;
    uint64_t node_id;
    uint64_t acked; /* Last index acked in acked_term (G10). */
    uint64_t acked_term;
    uint64_t heard_ms;    /* Last result in our term, 0: never. */
    uint64_t read_seq;    /* Highest PONG in our term. */
    uint64_t commit_told; /* Commit index of the last entries or heartbeat to it. */
    uint64_t probed_ms;   /* When a refusal last made the core look again. */
    uint64_t told_term;   /* By its newest table, 0: none came in this process. */
    uint32_t table_epoch; /* Peer epoch of the table below, 0: none. */
    uint64_t table_last;
    uint64_t table_last_term;
    uint64_t table_commit;
    uint64_t aimed;        /* The entry before the first one that was sent by the table, 0: none. */
    bool is_table_refused; /* It did not fit there. */
    struct out_queue queue;
    struct peer *peer; /* That queue's, once used. */
};

struct gated {
    struct list link;
    struct raft_message m;
    uint64_t node_id;
    size_t bytes;
};

struct proposal {
    uint64_t token;
    struct raft_buffer buf;
};

/* Handed to libraft, not yet applied. */
struct flying {
    uint64_t index;
    uint64_t term;
    uint64_t token;
    uint32_t bytes;
};

struct read_request {
    uint64_t token;
    uint64_t index;
    uint64_t seq;
    uint64_t since_ms;
};

struct pull;

struct raft_group {
    struct raft_host *host;
    uint64_t gid;
    uint64_t raft_id;
    char address[CONF_ADDRESS_BYTES];
    struct group_fsm fsm;
    uint32_t entry_bytes_max;
    uint8_t priority;
    bool is_open; /* The embedder knows it. */
    bool is_single;
    bool is_preferred;
    enum group_state state;
    UT_hash_handle hh;
    struct list turn_link; /* In host->busy when there is work for the end of the turn. */
    struct list wheel_link;
    struct list fence_link;    /* In host->fenced. */
    struct list campaign_link; /* In host->campaigns. */
    struct list switch_link;   /* In host->switching. */
    struct list carry_link;    /* In host->carrying. */

    /* The WAL's side: as queued, whether or not durable. */
    uint64_t term;
    uint64_t voted_for;
    struct base base;
    struct base image;     /* IMAGE record found at replay; index 0: none. */
    struct conf_at *confs; /* CHANGE entries above the base, ascending. */
    unsigned confs_count, confs_cap;
    struct span *spans; /* APPEND records above the durable base; a ring. */
    unsigned spans_front, spans_count, spans_cap;
    uint64_t last_index;
    uint64_t last_term;
    uint64_t fence_lsn; /* Last META, CREATE, TRUNCATE or RESET. */
    uint64_t last_lsn;  /* Last record of any kind. */
    uint64_t create_lsn;
    uint64_t stub_lsn; /* Newest stub: it tells, with what follows, all but entries. */
    uint64_t
        stub_kept; /* The stub before it, in another frame: kept in case that one rots. 0: none. */
    uint64_t base_lsn;             /* Of the last BASE or RESET. */
    struct base_told base_told[2]; /* The newest, and the one before in another frame. */
    uint64_t base_durable;         /* Told twice, durably: spans up to it went. */
    uint64_t hold_lsn; /* Needed while hold_until is not durable: written again meanwhile. */
    uint64_t hold_until;
    uint64_t carried_at; /* wal_written when the entries were carried forward last; 0: never. */
    uint64_t moved_ms;   /* When entries were appended or cut off last. */
    /* A run of carried entries under way (keep.c); carry_next 0: none. */
    uint64_t carry_next, carry_last;
    struct span *carry_spans; /* Written so far. */
    unsigned carry_count, carry_cap;
    bool is_deleted; /* During replay. */
    bool is_known;   /* CREATE or CHECKPOINT was seen. */
    bool is_suspect;
    bool is_newcomer;   /* Has never been a voter, by any configuration it knew. */
    bool is_level;      /* group_status. */
    bool is_divergent;  /* group_status. */
    bool is_halted;     /* group_halt(). */
    bool takes_images;  /* The same, if it is. */
    uint64_t level_at;  /* What members said to be committed, when they connected. */
    bool has_old_terms; /* A suspect: it may have promised something in terms that it does not know.
                         */
    bool is_doubtful;   /* A suspect: its base may tell members of before. */
    bool has_known;     /* The embedder says who may be a member. */
    struct conf *known; /* Whom it named; NULL: none yet. */
    uint64_t known_reported;
    bool is_known_settled;
    bool is_broken; /* Replay met a record that made no sense. */
    /* Entries while no instance has them: replayed, until the group is opened, or of one that was
     * stopped. First index, and libraft's own form. */
    struct raft_entry *suffix;
    uint64_t suffix_first;
    size_t suffix_count, suffix_cap;
    /* During replay: what was there before a run of carried entries that does not reach it yet. */
    struct raft_entry *aside;
    uint64_t aside_first;
    size_t aside_count, aside_cap;
    bool is_run; /* What is in the suffix was carried, and what follows it may come yet. */

    /* The instance. */
    struct raft *r; /* NULL: none runs. */
    struct raft_io io;
    struct raft_fsm core_fsm;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    bool is_closing;
    struct raft_entry *load_entries; /* Prepared for io->load. */
    uint64_t load_first;
    size_t load_count;
    struct base load_base;
    uint64_t next_index; /* Of the next append. */
    struct list appends;
    unsigned appends_count;
    struct list held;
    unsigned held_count;
    struct list offers;
    struct raft_io_snapshot_put *put_req;
    raft_io_snapshot_put_cb put_cb;
    uint64_t put_index;                 /* Up to which the embedder has to have what is trimmed. */
    struct list gets;                   /* Pending snapshot_get. */
    const struct raft_message *current; /* Being received. */
    bool is_in_append_cb;
    uint64_t append_cb_term;
    unsigned failures;  /* Reloads after UNAVAILABLE. */
    bool is_reload_due; /* Once no append is in flight; until then nothing is delivered. */

    /* The guard. */
    uint64_t verified, verified_term, verified_leader;
    bool was_leader;
    uint64_t lead_term;
    uint64_t barrier_index;
    uint64_t hold_index;    /* Results wait until this is stored: the barrier, or a promotion. */
    bool is_barrier_stored; /* It is. */
    uint64_t lead_ms;       /* Since when it leads. */
    uint64_t leader_id, leader_node, leader_term, leader_seen_ms;
    uint64_t leader_commit; /* As it said last, in its term. */
    bool is_alone; /* Led at the last tick without a majority of nodes; none came back since. */
    struct group_role told; /* Last role_changed. */
    bool is_told;
    struct list gate;
    unsigned gate_count;
    size_t gate_bytes;
    struct list fenced;
    struct replica replicas[REPLICAS_MAX];
    unsigned replicas_count;
    uint64_t delivered, delivered_term;
    bool is_delivering;
    struct list behind_link;  /* In host.behind. */
    uint64_t applied;         /* The embedder's. */
    size_t log_bytes;         /* Of entries in memory, about: instance_log_bytes(). */
    uint64_t trim_wanted;     /* What was applied when a trim was asked for. */
    uint64_t voted_ms;        /* When a real vote was granted last. */
    uint64_t vote_durable_ms; /* When that was seen to be durable. */

    /* Proposals. */
    struct proposal *pending;
    unsigned pending_count, pending_cap;
    uint64_t pending_bytes; /* Pending and flying. */
    struct flying *flying;  /* A ring. */
    unsigned flying_front, flying_count, flying_cap;
    uint64_t last_proposed; /* Last index handed to the core in this leadership. */
    uint64_t batch_last[4]; /* Last indexes of the batches in flight. */
    unsigned batch_count;
    struct read_request *reads;
    unsigned reads_count, reads_cap;
    uint64_t read_seq;
    bool is_read_new;
    uint64_t move_to; /* Raft id; 0: no move. */
    uint64_t move_until_ms;
    bool is_move_sent;
    bool is_waiting;

    /* Members. */
    struct conf *target;       /* NULL: nobody wants a change. */
    bool is_target_due;        /* It may not be reached. */
    uint64_t promote_until_ms; /* Proposals wait for a promotion; 0: they do not. */
    uint64_t promote_again_ms;
    uint64_t move_again_ms;

    /* Campaigns. */
    bool is_tick_due;         /* The core is to be ticked this turn. */
    uint64_t campaign_ms;     /* When due; 0: none. */
    uint64_t campaign_end_ms; /* Repeat until then, or until a leader is known. */
    uint32_t campaign_every_ms;
    uint64_t split_term; /* Own candidacy of this term came to nothing. */
    unsigned splits;     /* So many in a row. */
    bool is_ranked;      /* Its turn in the successor order is known. */

    struct pull *pull;
};

enum job_kind {
    JOB_IMAGE_OPEN,
    JOB_IMAGE_READ,
    JOB_STAGE_WRITE,
    JOB_STAGE_VERIFY,
    JOB_STAGE_SWITCH
};

struct host_job {
    struct list link; /* In host->jobs. */
    struct raft_host *host;
    enum job_kind kind;
    void *owner; /* struct offer or struct pull. */
    uint8_t *buf;
    uint64_t part, off;
    size_t len;
    uint64_t to_seq;
};

struct raft_host {
    struct host_options opt;
    struct wal *wal;
    uint64_t now_ms;
    uint64_t durable_lsn;
    struct raft_group *groups; /* uthash by gid. */
    struct peer *peers;        /* uthash by node_id. */
    struct list appends;       /* Of all groups, in LSN order. */
    struct list busy;
    struct list behind; /* Groups with committed entries that wait to be delivered. */
    bool has_delivered; /* In this turn. */
    struct list fenced; /* Groups that have fenced items. */
    struct list done;   /* Outs whose callback is due. */
    struct list campaigns;
    struct list switching; /* Groups whose pull waits for the WAL. */
    struct list carrying;  /* Groups whose entries are being carried forward. */
    uint64_t carry_lsn;    /* Of the last record of those. */
    struct list wheel[WHEEL_SLOTS];
    unsigned wheel_next; /* Slot for the next group. */
    uint64_t wheel_ms;   /* Slots were ticked up to here. */
    uint64_t campaign_credit_milli;
    uint64_t opened_ms;
    uint64_t kept_ms;     /* Last run of keep.c. */
    uint64_t wal_written; /* Bytes of records since the start. */
    uint64_t log_bytes;   /* Sum over the groups. */
    struct list jobs;
    uint64_t next_id; /* Offers, fragments. */
    uint64_t node_pending_bytes;
    struct buf frame; /* Being filled. */
    struct buf
        unknown_suspects; /* u64 each, from the replay on: groups of which nothing is left. */
    struct buf scratch;   /* For records. */
    struct slice *parts;
    size_t parts_cap;
    bool is_closing;
    bool is_disk_stuck;
    bool has_wal_suspects; /* Replay told of some, until host_open has recorded them. */
    struct host_stats stats;
};

/* ---- host.c ---- */
struct peer *host_peer(struct raft_host *h, uint64_t node_id); /* Found or made. */
uint64_t host_wal_append(struct raft_host *h, uint8_t type, uint64_t gid, const struct slice *parts,
                         unsigned count);
void host_wal_lock(struct raft_host *h);
void host_wal_unlock(struct raft_host *h);
void host_alarm(struct raft_host *h, uint64_t gid, const char *text);
/* Come back to this group at the end of the turn. */
void host_group_busy(struct raft_group *g);
struct host_job *job_new(struct raft_host *h, enum job_kind kind, void *owner);
raft_time host_core_now(const struct raft_host *h);

/* ---- group.c ---- */
struct raft_group *group_new(struct raft_host *h, uint64_t gid);
void group_free(struct raft_group *g);
/* Trim, catch-up, proposals, reads, the move. */
void group_turn(struct raft_group *g);
/* A replica is back: where this one leads, it says so now and sends what the other missed, not up
 * to a heartbeat later. Both ends may see the connection first, so it is done when it stands and
 * when the other's table comes. */
void group_greet(struct raft_group *g, uint64_t raft_id);
/* Close the instance for good; what is in memory above the base stays there. */
void group_fail(struct raft_group *g, const char *why);
/* It is halted, and its log has as much as may stay in memory. */
bool group_is_full(const struct raft_group *g);
struct replica *group_replica(struct raft_group *g, uint64_t raft_id);
/* Hand leadership to this member, a voter. */
void group_move_to(struct raft_group *g, uint64_t raft_id);
/* Find or make; NULL when the table is full of members. */
struct replica *group_replica_add(struct raft_group *g, uint64_t raft_id, uint64_t node_id);

/* ---- propose.c ---- */
bool group_is_ready(const struct raft_group *g); /* Leads, barrier applied. */
/* Hand pending proposals to the core, as far as G10 lets them. */
void propose_turn(struct raft_group *g);
/* The token of what was applied at {@index, @term}, 0: not proposed here. */
uint64_t propose_token_of(struct raft_group *g, uint64_t index, uint64_t term);
/* End all proposals (pending: dropped, flying: unknown) and reads. */
void group_fail_proposals(struct raft_group *g);

/* ---- read.c ---- */
void read_turn(struct raft_group *g);
void read_fail(struct raft_group *g);
void group_read_pong(struct raft_group *g, uint64_t from, uint64_t term, uint64_t seq);

/* ---- group_log.c ---- */
void base_set(struct base *b, uint64_t index, uint64_t term, uint64_t conf_index,
              struct slice conf);
void base_copy(struct base *to, const struct base *from);
void base_close(struct base *b);
/* The configuration as of @index: the last CHANGE at or below it, else the base's (T4). Empty when
 * there is none. */
struct slice log_conf_as_of(const struct raft_group *g, uint64_t index, uint64_t *ret_conf_index);
uint64_t log_put_meta(struct raft_group *g);
uint64_t log_put_entries(struct raft_group *g, enum record_type type, uint64_t first,
                         const struct raft_entry *entries, size_t n);
uint64_t log_put_truncate(struct raft_group *g, uint64_t from);
uint64_t log_put_base(struct raft_group *g, enum record_type type, const struct base *b);
uint64_t log_put_create(struct raft_group *g);
/* Suspicion, and whether it was ever a voter. */
void log_put_suspect(struct raft_group *g);
/* A configuration that the log has: it may be a voter from now on. */
void log_note_conf(struct raft_group *g, struct slice conf);
void log_put_delete(struct raft_group *g);
uint64_t log_put_checkpoint(struct raft_group *g);
/* Forget entries above @last in confs and spans. */
void log_cut(struct raft_group *g, uint64_t last);
/* All entries are void; the base is @b. */
void log_reset(struct raft_group *g, const struct base *b);
/* Move the base up, without a record. */
void log_set_base(struct raft_group *g, uint64_t index, uint64_t term);
void log_durable(struct raft_group *g);
/* All entries stand in these records too: the older ones are not needed for them. */
void log_spans_replace(struct raft_group *g, const struct span *spans, unsigned count);
void log_opened(struct raft_group *g); /* All records were replayed. */
void log_aside_close(struct raft_group *g);
/* Copy what the core has in memory above the base: it is about to be closed for good. */
void log_suffix_keep(struct raft_group *g);
/* Without an instance: what is in memory is what is kept of the log. */
void log_suffix_count_bytes(struct raft_group *g);
uint64_t log_needed_lsn(const struct raft_group *g);
void log_replay(void *arg, uint64_t lsn, uint8_t type, uint64_t gid, struct slice payload);
void log_replay_suspect(void *arg, uint64_t gid);
void log_suffix_drop(struct raft_group *g, uint64_t first, uint64_t last);
void log_note_entries(struct raft_group *g, uint64_t first, const struct raft_entry *entries,
                      size_t n);

/* ---- instance.c ---- */
/* Start with what is in g->load_*. False: the group failed. */
bool instance_start(struct raft_group *g);
void instance_close(struct raft_group *g);
/* The log in memory has @bytes now. */
void instance_log_bytes(struct raft_group *g, size_t bytes);
/* Close, cut the log from @cut_from on (0: nothing), load again (G9, G13, G14, G16). */
bool instance_reload(struct raft_group *g, uint64_t cut_from);
/* At process start: base and replayed suffix. */
bool instance_open(struct raft_group *g);

/* ---- guard.c ---- */
/* After every call into the core. */
void guard_post(struct raft_group *g);
/* Above that much the log in memory is trimmed. */
uint64_t guard_log_entries_max(const struct raft_group *g);
uint64_t guard_log_bytes_max(const struct raft_group *g);
/* What is committed goes to the embedder, however long it takes. */
void guard_deliver_all(struct raft_group *g);
/* Go on with groups whose committed entries had to wait; true when some still do. */
bool guard_deliver_behind(struct raft_host *h);
/* An append of the group is durable. */
void guard_append_done(struct raft_group *g, struct append *a);
/* Held completions that may go (G10). */
void guard_release(struct raft_group *g);
/* G11 ends: it has everything that may have been acknowledged. */
void guard_trust(struct raft_group *g, const char *why);

/* ---- guard_in.c ---- */
/* A message from a peer; takes over its entries. */
void guard_arrive(struct raft_group *g, uint64_t node_id, struct raft_message *m);
/* Deliver what the gate no longer holds. */
void guard_pump(struct raft_group *g);
/* Close and load again, as soon as no append is in flight (G14). */
void guard_reload(struct raft_group *g);
void guard_gate_clear(struct raft_group *g);
void guard_message_free(struct raft_message *m);

/* ---- guard_out.c ---- */
int guard_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m,
               raft_io_send_cb cb);
void guard_tell_commit(struct raft_group *g); /* At the end of the turn. */
/* Before a tick of the core: from which entry on members that were away are sent to. */
void guard_aim(struct raft_group *g);
/* After entries came, and after they were stored. */
void guard_look_level(struct raft_group *g);
/* Some follower has committed entries and does not know it: a turn is wanted. */
bool guard_has_commit_news(struct raft_group *g);
void guard_accepted(struct raft_group *g); /* The core took the entries being received. */
void guard_send_result(struct raft_group *g, uint64_t to, uint64_t node_id, uint64_t term,
                       uint64_t rejected, uint64_t last_index);

/* ---- vote.c ---- */
bool vote_is_hosts(const struct raft_group *g);
void vote_answer(struct raft_group *g, const struct raft_request_vote *v, uint64_t from,
                 uint64_t node_id);
/* G11: does it know of all terms in which it may have voted or acknowledged? */
bool vote_suspect_knows_terms(struct raft_group *g);
/* Whether the members that its log tells are surely not those of before (G19). */
bool vote_suspect_knows_members(const struct raft_group *g);
/* Its own log is the newest of all who may be members, and its members are not of before. */
bool vote_suspect_may_lead(struct raft_group *g);
/* G11: a voter has told its term: perhaps that was the last one. */
void vote_suspect_learn(struct raft_group *g);
/* G11: no append is in flight, and the instance about to be loaded again. */
void vote_suspect_raise(struct raft_group *g);
/* G11: ask the voters that told nothing yet; and forget a silent leader. */
void vote_suspect_tick(struct raft_group *g);
/* G11: may it vote for somebody with this log, may it campaign? */
bool vote_suspect_may_vote(struct raft_group *g, uint64_t last_term, uint64_t last_index);

/* ---- outbox.c ---- */
struct out *out_new(struct raft_group *g, enum frame_kind kind, uint64_t to, uint64_t node_id);
/* Queue behind the fence, or straight to the peer. Takes @o over. */
void out_push(struct out *o);
void out_free(struct out *o);
/* The fence has moved. */
void outbox_durable(struct raft_host *h);
/* Fill frames and send them; true if something is left. */
bool outbox_flush(struct raft_host *h);
/* Callbacks of what was sent or given up. */
void outbox_complete(struct raft_host *h);
/* Take back what is queued of the group: entries, what the core has a callback for, or all.
 * Callbacks are called at once when @is_now, else by outbox_complete. */
enum cancel_what { CANCEL_ENTRIES, CANCEL_OF_CORE, CANCEL_ALL };
void outbox_cancel(struct raft_group *g, enum cancel_what what, bool is_now, int status);
void outbox_peer_drop(struct peer *p);
/* Tell the replica on @node_id what this group has here (G14). */
void outbox_put_table(struct raft_group *g, uint64_t raft_id, uint64_t node_id, bool is_asking);
void outbox_put_tables(struct raft_group *g, bool is_asking); /* To all members. */
void outbox_replica_drop(struct replica *rep);
uint64_t outbox_node_of(struct raft_group *g, uint64_t raft_id);

/* ---- inbox.c ---- */
int inbox_receive(struct raft_host *h, uint64_t node_id, enum host_lane lane, struct slice frame);
void inbox_peer_reset(struct peer *p);
void group_table(struct raft_group *g, struct replica *rep, const struct frame_item *it);

/* ---- catchup.c ---- */
#define CATCHUP_TABLE_PART_BYTES 12 /* u64 bytes, u32 crc. */
void catchup_item(struct raft_group *g, uint64_t node_id, const struct frame_item *it);
void catchup_tick(struct raft_group *g);
void catchup_job_done(struct host_job *job, int status);
void catchup_host_close(struct raft_host *h);
/* DONE or NAK. */
void catchup_say(struct raft_group *g, enum frame_kind kind, uint64_t to, uint64_t node_id,
                 uint64_t id, uint8_t status);
uint64_t catchup_table_bytes(const struct buf *table, uint64_t part);

/* ---- offer.c ---- */
int offer_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb);
/* libraft wants the image sent. */
void offer_send_wanted(struct raft_group *g, struct raft_io_send *req, raft_io_send_cb cb,
                       const struct raft_message *m);
void offer_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                        const struct group_part *parts, uint32_t parts_count);
/* End the offers: to one replica, or all (0). */
void offers_end(struct raft_group *g, uint64_t raft_id, int status);
void offers_cancel(struct raft_group *g); /* gets and offers, from io->close. */
void offer_on_pull(struct raft_group *g, uint64_t node_id, const struct frame_item *it);
void offer_on_done(struct raft_group *g, const struct frame_item *it);
void offer_image_read(struct host_job *job, int status);
void offer_tick(struct raft_group *g);
void offer_turn(struct raft_group *g); /* At the end of the turn. */
void offer_node_down(struct raft_group *g, uint64_t node_id);
void offer_forget_job(struct host_job *job);

/* ---- pull.c ---- */
void pull_durable(struct raft_group *g);
void pull_drop(struct raft_group *g);
bool pull_is_switching(const struct raft_group *g);
/* It waits until nothing of the group is on its way to the disk, and then switches. */
bool pull_wants_quiet(const struct raft_group *g);
void pull_on_offer(struct raft_group *g, uint64_t node_id, const struct frame_item *it);
void pull_on_chunk(struct raft_group *g, const struct frame_item *it);
void pull_on_nak(struct raft_group *g, const struct frame_item *it);
void pull_job_done(struct host_job *job, int status);
void pull_tick(struct raft_group *g);
void pull_node_down(struct raft_group *g, uint64_t node_id);
void pull_forget_job(struct host_job *job);

/* ---- elect.c ---- */
void elect_tick(struct raft_host *h);
void elect_wheel_add(struct raft_group *g);
void elect_started(struct raft_group *g, bool is_created);
void elect_step_down(struct raft_group *g);
void elect_node_down(struct raft_group *g, uint64_t node_id);
/* It was the leader, and is no more. */
void elect_deposed(struct raft_group *g);
/* A member asks for our vote in this term: if it is the leader we know, it leads no more. */
void elect_asked(struct raft_group *g, uint64_t candidate, uint64_t term);
void elect_campaign_at(struct raft_group *g, uint64_t at_ms, uint32_t every_ms, uint64_t end_ms);
void elect_campaign_stop(struct raft_group *g);
bool elect_may_tick(struct raft_group *g);
/* Tick the core of a group that runs, outside of its turn on the wheel. */
void elect_tick_now(struct raft_group *g);

/* ---- members.c ---- */
void members_turn(struct raft_group *g);
bool members_is_target_reached(const struct raft_group *g);
/* Nothing is handed to the core: a promotion waits for silence. */
bool members_is_paused(const struct raft_group *g);

/* ---- keep.c ---- */
void keep_run(struct raft_host *h);
/* The next record of what is being carried forward, if the last one is durable. */
void keep_durable(struct raft_host *h);
/* The log moves: a run that is under way would not be whole. */
void keep_give_up(struct raft_group *g);
void keep_close(struct raft_group *g);
#endif
