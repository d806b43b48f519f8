/* The group host: all Raft replicas of a node, over one WAL and one set of peer connections.
 *
 * Pure and driven: no clock, no sockets, no threads. The embedder (the node, or the simulator)
 * passes the time in, carries frames, drives the WAL and says which peers are up. Entries are
 * bytes. Everything belongs to one thread; no call may be made from inside another thread.
 *
 * Start:   host_new -> wal_open(..., host_wal_replay(h), ...) -> host_open -> group_open for each
 *          group the embedder knows (host_each_group lists what the WAL has) or group_create.
 * Turn:    host_tick, host_receive, group_propose … in any order and number, host_durable when the
 *          WAL has made progress, and at the end of each loop turn host_turn_end, once.
 *
 * Callbacks (struct host_env, struct group_fsm) are made from inside these calls, but never while
 * libraft is on the stack. From a callback every group_ call is allowed except group_create,
 * group_open, group_destroy and host_close; host_ calls are not allowed.
 *
 * What a replica tells its peers is durable before it leaves: the host holds frames back behind the
 * WAL (fences), so the embedder may send what it gets at once. */
#ifndef RAFT_HOST_H
#define RAFT_HOST_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/buf.h"
#include "storage/base/slice.h"
#include "storage/wal.h"

struct raft_host;
struct raft_group;
struct host_job; /* Something asynchronous that the embedder does for the host, see below. */

#define HOST_FRAME_BYTES_MAX (1u << 20)  /* No frame passed to send() is larger. */
#define HOST_ENTRY_BYTES_MAX (64u << 20) /* Upper bound of any entry_bytes_max. */
#define HOST_MEMBERS_MAX 16              /* Replicas in one configuration. */
#define HOST_PART_BYTES_MAX (1ull << 32) /* One part of an image. */
#define HOST_PARTS_MAX (1u << 20)        /* Parts of one image. */

/* RAFT: votes, entries, results. BULK: catch-up. Each is FIFO; they are independent. */
enum host_lane { HOST_LANE_RAFT, HOST_LANE_BULK };

/* Guards, for guards_off: set bits switch a guard OFF. For the simulator's ablation only: without
 * any one of them data is lost or a group hangs (raft-guide 4.3 and its supplement on members). */
/* clang-format off */
#define HOST_GUARD_MAP(X) \
    X(FENCE) /* messages wait until what they tell is durable */ \
    X(G1) /* new leader: barrier, results held until it is stored */ \
    X(G2) /* ack clamp */ \
    X(G2B) /* entries of an older term are answered by the host */ \
    X(G3) /* commit clamp */ \
    X(G4) /* in-flight gate */ \
    X(G5) /* results made in the callback of an older term's append */ \
    X(G6) /* no tick for a non-leader with appends in flight */ \
    X(G7) /* one vote per term */ \
    X(G8) /* a useful reject hint */ \
    X(G8B) /* a leader begins where the log of a member that returns ends */ \
    X(G9) /* truncate by restart */ \
    X(G10) /* stop-and-wait, or held completions (pipeline_max > 1) */ \
    X(G11) /* a suspect replica neither votes nor campaigns */ \
    X(G12) /* queued sends are cancelled on step-down */ \
    X(G13) /* a sole voter raises the term before it elects itself */ \
    X(G14) /* a peer that came back shorter */ \
    X(G15) /* entries that begin below the commit index are cut */ \
    X(G16) /* the host votes where the core is no voter */ \
    X(G17) /* a refused pre-vote tells the true term */ \
    X(G18) /* a STANDBY's vote does not compare logs */ \
    X(G19) /* a suspect helps nobody until it knows who may be a member */ \
    X(T1) /* a trim of memory waits for no disk */ \
    X(T2) /* a leader does not trim past a follower that answers */ \
    X(T3) /* an offer names the base of its image (off: what the core asked for) */ \
    X(T4) /* a base's configuration is that of its index (off: the newest) */ \
    X(T5) /* a WAL suffix that does not continue the base is void */ \
    X(T6) /* a base is never moved back */ \
    X(C1) /* an image is not older than the log in memory (off: the last there is) */ \
    X(C2) /* an offer is completed when the catch-up ends (off: at once) */ \
    X(C3) /* an offer never replaces a log that contains it */ \
    X(C4) /* a replica that fetches an image goes on (off: it neither votes nor campaigns) */ \
    X(C5) /* what came while the image did is looked at before the switch */ \
    X(C6) /* the store switches before the WAL hears of it */ \
    X(C7) /* who has an image tells its leader */ \
    X(C8) /* a pull without progress, or from a leader of before, is given up */ \
    X(SUCCESSOR) /* successor order after a node went down */ \
    X(M1) /* members change only when the own term's barrier is applied */ \
    X(M2) /* the log says what was reached (off: what was asked for once is taken for done) */ \
    X(M3) /* all newcomers are level before the first is promoted */ \
    X(M4) /* a promotion waits until nothing is under way, and holds results until it is stored */ \
    X(M5) /* a change needs an answering quorum of the voters after it */ \
    X(M6) /* what is not for the replica that lives here is not heard */ \
    X(M7) /* a voter goes directly (off: by way of STANDBY) */ \
    X(M8) /* a dead member goes before a new one comes */ \
    X(M10) /* a leader that is to go hands over first */ \
    X(M11) /* who is handed the leadership has everything first */ \
    X(M12) /* entry 1 is the same bytes on each member */
/* clang-format on */
enum host_guard {
#define HOST_GUARD_ENUM(name) HOST_GUARD_##name,
    HOST_GUARD_MAP(HOST_GUARD_ENUM)
#undef HOST_GUARD_ENUM
        HOST_GUARDS_COUNT
};
#define GUARD_BIT(name) (UINT64_C(1) << HOST_GUARD_##name)

/* What the embedder gives the whole host. */
struct host_env {
    /* Carry @frame to @node_id, in order with the others of its lane, or lose it. The bytes are
     * lent for the call. */
    void (*send)(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame);
    /* How many bytes the connection takes now. NULL: always enough. What does not fit stays queued
     * in the host, bounded by peer_queue_bytes_max, until a later host_turn_end. */
    uint64_t (*room)(void *ctx, uint64_t node_id, enum host_lane lane);
    /* Around each use of the WAL: hold the lock that its writer thread takes (wal_thread_lock).
     * Never held while calling back. NULL: nobody else uses it. */
    void (*wal_lock)(void *ctx);
    void (*wal_unlock)(void *ctx);
    /* A uniformly random number. */
    uint64_t (*random)(void *ctx);
    /* This group's WAL records keep old segments alive: flush its store soon and report it with
     * group_set_base(). May be NULL. Repeated while it holds. */
    void (*flush_wanted)(void *ctx, uint64_t gid);
    /* This turn has taken long enough: committed entries that are not delivered yet wait for the
     * next one. At least one is delivered in each. NULL: never. */
    bool (*is_late)(void *ctx);
    /* Something that must never happen did: divergence, a core that gave up, a loss that was
     * acknowledged. Also logged. May be NULL. */
    void (*alarm)(void *ctx, uint64_t gid, const char *text);
    void *ctx;
};

/* Zero means the default in parentheses. */
struct host_options {
    struct host_env env;
    uint64_t node_id;
    uint32_t election_timeout_ms;    /* The net under the successor order (3000). */
    uint32_t heartbeat_ms;           /* (1000) */
    uint32_t install_timeout_ms;     /* (30000) */
    uint32_t groups_per_s;           /* Campaigns begun by the host (2000). */
    uint32_t successor_ms;           /* Rank k waits k times this (100); see elect.c. */
    uint32_t pipeline_max;           /* Batches in flight per group, 1 to 4: above 1 with held
                                      * completions, G10 phase 2 (1). */
    uint32_t log_entries_max;        /* In-memory log of a group, before it is trimmed (8192). */
    uint32_t log_bytes_max;          /* Same (32 MiB). */
    uint64_t node_log_bytes_max;     /* Of all groups; above it each is trimmed from LOG_TIGHT_*
                                      * on (128 MiB). */
    uint32_t log_hold_entries_max;   /* Held for a slow follower that answers (16384). */
    uint32_t log_hold_bytes_max;     /* Same; an AppendEntries of it must fit peer_queue_bytes_max
                                      * (48 MiB). */
    uint32_t pending_bytes_max;      /* Proposed and not yet committed, per group (4 MiB). */
    uint64_t node_pending_bytes_max; /* Same, of all groups (64 MiB). */
    uint32_t peer_queue_bytes_max;   /* Waiting to be sent to one peer (64 MiB). */
    uint32_t group_queue_bytes_max;  /* Same, of one group, and one item more (8 MiB). */
    uint32_t chunk_bytes;            /* Catch-up chunk, at most 512 KiB (256 KiB). */
    uint64_t wal_bytes_max;          /* Budget; from 75 % on flushes are forced (1 GiB). */
    uint64_t guards_off;             /* GUARD_BIT()s. The simulator's ablation only (0). */
};

/* ---- Groups ---- */

enum group_entry_type {
    GROUP_ENTRY_COMMAND,  /* Proposed bytes. */
    GROUP_ENTRY_INTERNAL, /* Barrier or configuration: no bytes, only moves the applied index. */
};

/* A committed entry. Indexes come without gaps; none comes twice within a process. */
struct group_entry {
    uint64_t index;
    uint64_t term;
    enum group_entry_type type;
    struct slice bytes; /* Borrowed until apply() returns. */
    uint64_t token;     /* Of group_propose() here, in this leadership; else 0. */
};

/* What became of an accepted proposal that will never come to apply() with its token. */
enum group_lost {
    GROUP_LOST_UNKNOWN, /* Leadership was lost: it may be in the log, and be applied later. */
    GROUP_LOST_DROPPED, /* It was never in the log and never will be. */
};

struct group_role {
    bool is_leader; /* Leads, and its own term's barrier is applied: proposals are accepted. */
    uint64_t term;
    uint64_t leader_node_id; /* As known here, 0: unknown. */
};

/* Index and term of an entry, 0 and 0: before the first. */
struct group_base {
    uint64_t index;
    uint64_t term;
};

struct group_part {
    uint64_t bytes; /* Up to HOST_PART_BYTES_MAX. */
    uint32_t crc;   /* CRC32C of all its bytes; the host passes it on. */
};

/* The embedder's state machine and store of one group. All pointers must be set but those marked.
 *
 * Jobs: what takes a `struct host_job *` may be done later, on any thread; its end is told on the
 * host's thread, exactly once, by the function named. Inside the call is allowed too. */
struct group_fsm {
    /* Apply a committed entry, or queue it. Cannot fail. */
    void (*apply)(void *ctx, const struct group_entry *entry);
    /* The proposal with @token ended without apply(). In order of proposing. */
    void (*lost)(void *ctx, uint64_t token, enum group_lost why);
    /* The role, the term or the leader known here has changed. */
    void (*role_changed)(void *ctx, const struct group_role *role);
    /* End of group_read_index(): @is_ok: whoever has applied @index answers linearizably. Else the
     * leadership is lost or unproven. May be NULL if that is never called. */
    void (*read_done)(void *ctx, uint64_t token, bool is_ok, uint64_t index);
    /* What the store holds durably. Asked in group_open. */
    struct group_base (*base)(void *ctx);

    /* --- Catch-up, the side that has the data. NULL: this group never sends images. --- */
    /* Flush, then pin an image of the durable state at @index_min or above.
     * End: host_image_opened(). */
    void (*image_open)(void *ctx, uint64_t index_min, struct host_job *job);
    /* Read exactly @len bytes into @buf, which stays until the end. End: host_job_done(). */
    void (*image_read)(void *ctx, void *image, uint32_t part, uint64_t off, uint8_t *buf,
                       size_t len, struct host_job *job);
    /* Unpin. No job of it is pending. */
    void (*image_close)(void *ctx, void *image);

    /* --- Catch-up, the side that needs it. NULL: offers are ignored. --- */
    /* Make room beside the present state. ERR_ codes refuse (no space …). @parts is borrowed. */
    int (*stage_open)(void *ctx, struct group_base base, const struct group_part *parts,
                      uint32_t parts_count, void **ret_stage);
    /* Whether what is in @part, not 0, is here already and need not be fetched. Asked when all
     * parts before it are staged or were here. NULL: nothing is. */
    bool (*stage_has)(void *ctx, void *stage, uint32_t part);
    /* @bytes stay until the end. End: host_job_done(). */
    void (*stage_write)(void *ctx, void *stage, uint32_t part, uint64_t off, struct slice bytes,
                        struct host_job *job);
    /* Check all parts and sync. End: host_job_done(), ERR_CORRUPT gives up. */
    void (*stage_verify)(void *ctx, void *stage, struct host_job *job);
    /* Make the stage the state of the group, durably: from the end on base() is the image's, and
     * what was applied or queued before is void. The next apply() has index base + 1. The stage is
     * consumed. End: host_job_done(); an error here is fatal, the embedder stops the process. */
    void (*stage_switch)(void *ctx, void *stage, struct host_job *job);
    /* Give up: forget what was staged. No job of it is pending. */
    void (*stage_drop)(void *ctx, void *stage);
    void *ctx;
};

enum group_member_role { GROUP_STANDBY = 0, GROUP_VOTER = 1, GROUP_SPARE = 2 };

struct group_member {
    uint64_t raft_id; /* Not 0; new for each incarnation of a replica, never used again. */
    uint64_t node_id;
    enum group_member_role role;
};

struct group_options {
    uint64_t gid;     /* Not 0; never used again. */
    uint64_t raft_id; /* Of the replica here. */
    struct group_fsm fsm;
    uint32_t entry_bytes_max; /* (9 MiB) */
    uint8_t priority;         /* 0: elections and campaigns before all others (the meta group). */
    bool is_preferred;        /* group_create: campaign at once. */
    bool is_single;           /* group_open: the embedder knows that there is one replica only, so
                               * even a suspect one may serve what it has. */
    bool has_known_members;   /* group_set_known_members will be called. */
};

/* ---- Host ---- */

/* Installs libraft's heap, once per process. @options is copied. Never fails. */
struct raft_host *host_new(const struct host_options *options);
/* The callbacks for wal_open(). */
struct wal_replay host_wal_replay(struct raft_host *h);
/* All records were replayed: take the WAL. It must outlive the host. */
void host_open(struct raft_host *h, struct wal *wal, uint64_t now_ms);
/* As a crash, but without leaks: nothing is written. Jobs still pending may be ended no more.
 * NULL is fine. */
void host_close(struct raft_host *h);

/* A frame from the authenticated peer @node_id. Whatever is in it is checked; returns 0, or
 * ERR_PROTO if it is malformed: the embedder then closes the connection. */
int host_receive(struct raft_host *h, uint64_t node_id, enum host_lane lane, struct slice frame);
/* Time passes; call it each 10 to 50 ms. Monotonic, must not go back. */
void host_tick(struct raft_host *h, uint64_t now_ms);
/* wal_durable_lsn() has reached @lsn. */
void host_durable(struct raft_host *h, uint64_t lsn);
/* Propose what was collected, and send. True if something is left to do that needs no event, as
 * frames beyond room(): come again soon. */
bool host_turn_end(struct raft_host *h);

/* A new raft connection to the peer stands (again): also without a peer_down before. The host
 * sends its group table first; what comes from an older connection must not be received any more.
 */
void host_peer_up(struct raft_host *h, uint64_t node_id);
/* The peer is down (raft-guide 7.6: a refused reconnect, or no heartbeats), not just disconnected:
 * starts the successor order. */
void host_peer_down(struct raft_host *h, uint64_t node_id);
/* The peer says that its disk takes nothing, or does so again. For elections it is as good as down,
 * though its connection stands. */
void host_peer_stuck(struct raft_host *h, uint64_t node_id, bool is_stuck);
/* The disk here takes nothing, or does so again: leaderships that others can take are given up, and
 * none is campaigned for. What is in flight stays so. */
void host_disk_stuck(struct raft_host *h, bool is_stuck);

struct host_stats {
    uint64_t groups;
    uint64_t leaders;
    uint64_t elections; /* Won here. */
    uint64_t entries_applied;
    uint64_t truncations;   /* By restart (G9). */
    uint64_t reloads;       /* Of instances, for any reason. */
    uint64_t catchups;      /* Completed here as receiver. */
    uint64_t catchups_kept; /* Offers of what was here already. */
    uint64_t catchups_given_up;
    uint64_t offers;        /* Made. */
    uint64_t trims;         /* Of in-memory logs. */
    uint64_t carried;       /* Entries carried forward in the WAL. */
    uint64_t alarms;        /* Divergence and the like; each is logged. */
    uint64_t gated;         /* Messages that waited in the in-flight gate. */
    uint64_t head_cuts;     /* G15. */
    uint64_t host_votes;    /* G16, asked. */
    uint64_t stale_entries; /* G2b. */
    uint64_t term_bumps;    /* G13. */
    uint64_t shorter_peers; /* G14: reloads. */
    uint64_t rollbacks;     /* G9 with a configuration in the tail. */
    uint64_t changes;       /* Of members, proposed. */
    uint64_t dropped;   /* Items from peers: not addressed to who lives here, or over a bound. */
    uint64_t malformed; /* Frames. */
    uint64_t queued_bytes;
    uint64_t pending_bytes;
    uint64_t heap_bytes; /* Of libraft, all hosts of the process. */
};
void host_stats(const struct raft_host *h, struct host_stats *ret_stats);

/* ---- Groups: life ---- */

/* What the WAL knows of a group before it is opened. */
struct group_found {
    uint64_t gid;
    uint64_t raft_id;
    uint64_t term;
    struct group_base base; /* By the WAL's last BASE record. */
    uint64_t last_index;
    bool is_suspect;
    bool is_open;
};
typedef void (*group_found_cb)(void *arg, const struct group_found *found);
/* Each group in gid order of its first record. Groups that are never opened are kept as they are:
 * their records are carried along. */
void host_each_group(const struct raft_host *h, group_found_cb cb, void *arg);
/* One of them; false if the WAL does not know it. */
bool host_find_group(const struct raft_host *h, uint64_t gid, struct group_found *ret_found);

/* ---- Groups: a majority is lost (recover.c). Between host_open and group_open ---- */

/* The configuration at the end of the log. ERR_NOTFOUND; ERR_CORRUPT: it knows none. */
int host_found_members(const struct raft_host *h, uint64_t gid,
                       struct group_member ret_members[HOST_MEMBERS_MAX], unsigned *ret_count);
/* The commands that the WAL holds of the group, in order; some may be below its base. */
typedef void (*host_entry_cb)(void *arg, uint64_t index, struct slice bytes);
void host_each_found_entry(const struct raft_host *h, uint64_t gid, host_entry_cb cb, void *arg);
/* Make the replica here the group's only member, and put @entries behind that. Everything in its
 * log counts as committed from its next start on; what only others have is lost, and none of them
 * may ever be heard again. Records are queued in the WAL: the caller writes them.
 * ERR_NOTFOUND; ERR_CORRUPT as above; ERR_INVALID: it is open, or its log is broken. */
int host_recover_group(struct raft_host *h, uint64_t gid, const struct slice *entries,
                       unsigned count);

/* ---- Groups: life, continued ---- */

/* A new group. With @members (all replicas write the identical first entry) it is bootstrapped;
 * with @members_count 0 the replica is an empty newcomer that waits for a leader. Returns the
 * group in *ret_group; its CREATE record's LSN is group_status().create_lsn: the caller does not
 * let its own durable state pass the assignment before that is durable.
 * Errors: ERR_EXISTS (gid), ERR_INVALID. */
int group_create(struct raft_host *h, const struct group_options *options,
                 const struct group_member *members, unsigned members_count,
                 struct raft_group **ret_group);
/* Load what the WAL has, on top of fsm.base(), and start. Errors: ERR_NOTFOUND (the WAL does not
 * know it, or another raft id: a lost replica, see design 6), ERR_EXISTS (open already),
 * ERR_CORRUPT: the WAL does not continue what the store holds; the group stays as found. */
int group_open(struct raft_host *h, const struct group_options *options,
               struct raft_group **ret_group);
/* Stop the replica and forget it, also in the WAL. The group's pending proposals end as DROPPED or
 * UNKNOWN first. Pending jobs of the group must still be ended; their images and stages are closed
 * by the host then. A group that was found but not opened is destroyed by its gid. */
void group_destroy(struct raft_group *g);
int host_destroy_found(struct raft_host *h, uint64_t gid);
/* NULL if not open. */
struct raft_group *host_group(struct raft_host *h, uint64_t gid);

/* ---- Groups: work ---- */

/* Append @bytes (copied) to the group's log, with what else was proposed in this turn. @token
 * (not 0) comes back in apply() or lost(), exactly once, if this returns 0.
 * ERR_NOTLEADER (see group_role.is_leader), ERR_BUSY (leadership is being moved), ERR_FULL
 * (pending_bytes_max), ERR_TOOBIG. */
int group_propose(struct raft_group *g, struct slice bytes, uint64_t token);
/* Prove leadership as of now, by a round to the voters; end: read_done(). ERR_NOTLEADER. */
int group_read_index(struct raft_group *g, uint64_t token);
/* Hand leadership to the voter on @node_id. Proposals are refused for at most 1.5 s. What comes of
 * it is seen in role_changed(). ERR_NOTLEADER, ERR_BUSY, ERR_NOTFOUND (no voter there). */
int group_move_leader(struct raft_group *g, uint64_t node_id);
/* The members this group is to have. Where it leads, the configuration is carried there, one member
 * at a time: newcomers are added, caught up and promoted, then those that are not wanted go, the
 * leader last, after a hand-over. Elsewhere nothing happens until it leads: tell every replica, and
 * again after each start. A change that is half done is completed by whoever leads next.
 *
 * A replica that joins is created empty (group_create with no members) on its node, before or
 * after. Raft ids are new for each: never one that was a member before. What a replica has may be
 * destroyed only when the leader says that it is no member any more: group_status() with neither
 * it among the members nor is_configuration_uncommitted.
 *
 * @members is copied; 0 of them: stop changing. ERR_INVALID: no voter, SPAREs, an id or a node
 * twice. A voter is not made a standby: it stays one. */
int group_set_target(struct raft_group *g, const struct group_member *members, unsigned count);
/* Who may be a member of the group, as whoever places its replicas knows it: all that are wanted,
 * and all that were and may still be. @reported is the index of the newest configuration that is
 * known there to be committed (0: that of its birth); @is_settled: no change is under way, @members
 * are exactly its voters. To be told of a group with has_known_members whose state is
 * GROUP_SUSPECT, once all that was decided before the replica's start is known, and again after a
 * change: until then such a replica neither votes nor leads nor helps a leader to commit (G19).
 * @members is copied, at most HOST_MEMBERS_MAX. */
void group_set_known_members(struct raft_group *g, const struct group_member *members,
                             unsigned count, uint64_t reported, bool is_settled);
/* The store holds everything up to {index, term} durably (step 4 of the flush ladder): append BASE
 * and let go of older WAL records once that is durable. @base was delivered to apply(). Returns
 * the LSN of the record (an older base: that of the last). */
uint64_t group_set_base(struct raft_group *g, struct group_base base);
/* Up to where the embedder has stepped what apply() gave it; for group_status only. */
void group_set_applied(struct raft_group *g, uint64_t index);
/* The embedder applies nothing above group_set_applied(), as at an entry that it does not know,
 * until the group is opened again or an image is in place. What it applied it flushes as ever. What
 * comes after that is taken as long as memory has room for all of it (log_entries_max,
 * log_bytes_max); then the group stops, as if its node were down, and keeps what it has: a log that
 * nothing lets go of would fill the disk of the whole node. Without @takes_images offers are
 * ignored: nothing can be made of what the leader has either. May be called in apply(). */
void group_halt(struct raft_group *g, bool takes_images);
/* Publishers, pulls or timers wait for this group: it is elected before the others. */
void group_set_waiting(struct raft_group *g, bool is_waiting);
/* Campaign now (the preferred leader after a create, an operator). Harmless on a leader. */
void group_campaign(struct raft_group *g);

enum group_state {
    GROUP_ACTIVE,
    GROUP_CATCHUP, /* Switching to an image: no instance for a moment. */
    GROUP_SUSPECT, /* May have lost acknowledged entries: neither votes nor campaigns (G11). */
    GROUP_FAILED,  /* Stopped: divergence, the core gave up, or it was halted and its log is full.
                    * Nothing more will happen. */
};

struct group_member_status {
    struct group_member member;
    uint64_t match_index; /* On a leader. */
    bool is_recent;       /* On a leader: heard within an election timeout. */
};

struct group_status {
    uint64_t gid;
    uint64_t raft_id;
    enum group_state state;
    struct group_role role;
    bool is_core_leader;     /* Also before its barrier is applied. */
    uint64_t leader_raft_id; /* 0: unknown. */
    uint64_t voted_for;
    uint64_t commit_index;
    uint64_t delivered_index; /* Given to apply(). */
    uint64_t delivered_term;
    uint64_t applied_index; /* By group_set_applied(). */
    uint64_t last_index;
    uint64_t last_term;
    uint64_t stored_index;    /* Known durable here. */
    uint64_t log_first_index; /* In memory. */
    uint64_t log_bytes;       /* In memory. */
    struct group_base base;   /* Last BASE. */
    uint64_t create_lsn;
    uint64_t needed_lsn; /* Oldest WAL record it needs. */
    uint64_t pending_bytes;
    uint64_t configuration_index;
    bool is_configuration_uncommitted;
    bool is_divergent; /* FAILED because a leader's entries differ from what was committed here. */
    bool is_halted;    /* By group_halt(). */
    bool is_waiting;   /* By group_set_waiting(). */
    bool is_target_reached; /* A leader, and the members are those of group_set_target(). */
    bool is_catching_up;    /* Pulling an image. */
    bool is_level; /* It leads, or has once had, since it was opened or fetched an image, all that
                    * a leader had committed. Stays while it lags a little. */
    uint64_t members_index; /* Of the entry that tells the members below: the log's newest such. */
    unsigned members_count;
    struct group_member_status members[HOST_MEMBERS_MAX];
};
void group_status(const struct raft_group *g, struct group_status *ret_status);
struct group_role group_role(const struct raft_group *g);
/* Term and type of an entry in memory, for oracles: 0 if it is not there. */
uint64_t group_term_at(const struct raft_group *g, uint64_t index);

/* ---- Ends of jobs ---- */

/* 0 or an ERR_ code. */
void host_job_done(struct host_job *job, int status);
/* @image is the embedder's; @base must be at or above the index asked for and not below the last
 * group_set_base(). @parts is copied. On an error all but @status is ignored. */
void host_image_opened(struct host_job *job, int status, void *image, struct group_base base,
                       const struct group_part *parts, uint32_t parts_count);
#endif
