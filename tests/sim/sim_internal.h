/* What the parts of the runner share: a run, its nodes, their replicas and clients.
 *
 *   sim_run.c      the run: faults, the calm at the end, what must be true then
 *   sim_node.c     a node: process, WAL on virtual time, the host's environment
 *   sim_files.c    its disk: where the newest WAL frames lie, and damage to them
 *   sim_tap.c      what the oracles are told of records and frames
 *   sim_members.c  who is to replicate the groups, as meta would decide it
 *   sim_replica.c  one group's state machine, flushes and images
 *   sim_store.h    the real store instead of that model, in the scenario `store`
 *   sim_state.c    its state: the stream machine, or the small one; encoded and back
 *   sim_time.c     wall clocks that are wrong, and what is true
 *   sim_client.c   what is published, the origin lanes and the leader's open batch
 *
 * A process that ended leaves events behind: each carries the node's life number, and does nothing
 * if that has moved on. */
#ifndef TESTS_SIM_INTERNAL_H
#define TESTS_SIM_INTERNAL_H
#include "broker/log_time.h"
#include "broker/stream.h"
#include "raft/host.h"
#include "tests/lib/sim_disk.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_oracle.h"
#include "tests/sim/sim_rng.h"
#include "tests/sim/sim_run.h"

#define MS 1000ll
#define SECOND (1000ll * MS)

struct sim_node;

/* Groups are numbered from 0, their gids begin where those of streams do (broker/meta.h). */
#define SIM_GID_MIN 16u
static inline uint64_t sim_gid(unsigned group)
{
    return SIM_GID_MIN + group;
}

/* UINT32_MAX: none of ours. */
static inline unsigned sim_group_of(uint64_t gid)
{
    return gid >= SIM_GID_MIN && gid < SIM_GID_MIN + SIM_GROUPS_MAX ? (unsigned)(gid - SIM_GID_MIN)
                                                                    : UINT32_MAX;
}

/* ---- The disk of a node (sim_files.c) ---- */

#define SIM_FRAMES_KEPT 6
struct sim_frame_place {
    char path[64];
    uint64_t off;
    uint64_t len;
    bool is_host; /* Holds records of the host, not only the WAL's own. */
    bool is_footer;
};
struct sim_open_file {
    struct file *file;
    char path[64];
};
struct sim_files {
    struct file_ops ops; /* Given to the WAL. */
    const struct file_ops *real;
    struct sim_open_file opens[16];
    unsigned opens_count;
    struct sim_frame_place frames[SIM_FRAMES_KEPT]; /* Newest last. */
    unsigned frames_count;
};
void sim_files_init(struct sim_files *f, const struct file_ops *real);
/* Damage the newest frame of the host's records, or make all from it on vanish. False if there is
 * none in reach. */
bool sim_files_rot(struct sim_files *f, struct sim_disk *disk, struct sim_rng *rng);
/* Damage a few places of the store, in no more than one copy of its journal. */
bool sim_files_decay(struct sim_disk *disk, unsigned places, struct sim_rng *rng);
bool sim_files_shorten(struct sim_files *f, struct sim_disk *disk);

/* ---- A replica's state (sim_state.c) ---- */

struct sim_state_image {
    struct group_base base;
    uint64_t hash;
    struct buf bytes;
};

/* ---- Clients (sim_client.c) ---- */

/* A message of a client, until it is answered. */
struct sim_message {
    struct list link;
    uint64_t n; /* 0: not numbered yet. */
    uint64_t uid;
    bool has_id;
    uint64_t expect_plus1; /* Only behind this sequence, plus 1; 0: anywhere. */
};
/* What the clients of one node publish to one stream. */
struct sim_lane {
    uint64_t next_n;
    struct list sent;
    struct list waiting;
    unsigned count;
    unsigned leader; /* Node + 1; 0: unknown. */
    uint64_t leader_term;
    int64_t progress_us;
    int64_t gap_us;
    uint64_t recent[8]; /* uids published with an id, to be published again. */
    unsigned recent_count;
};
/* The leader's open batch. */
struct sim_lead {
    bool is_leader;
    bool is_led; /* Its LEAD is applied. */
    uint64_t term;
    uint64_t lead_token;
    unsigned proposals_count;
    struct entry_builder batch;
    struct entry_builder closed;
    bool has_closed;
    bool is_clock_proposed;
    bool is_job_proposed;
    bool is_unsure_pending;
    bool is_sure_pending;
    int64_t clock_ns;
};
/* A content, published once or more often under the same id. */
struct sim_content {
    unsigned node;
    uint64_t origin;
    uint64_t n;
    uint64_t stored_seq; /* 0: not stored. */
    uint64_t expect_plus1;
    bool is_acked;
    bool is_refused;
    int64_t published_us;
};
/* What is stored at a sequence, as the first replica said. */
struct sim_stored {
    uint64_t uid;
    uint64_t index;
    int64_t time_ns;
    uint32_t payload_bytes;
    uint32_t header_bytes;
    int64_t true_us; /* When the first replica stored it. */
    bool is_excused; /* Nobody could know that its stamp is older than it is. */
    bool is_gone;
};
/* All that was ever published to a stream, and stored in it. */
struct sim_history {
    struct sim_content *contents; /* [uid] from 1 on. */
    uint64_t contents_count;
    uint64_t contents_cap;
    struct sim_stored *stored; /* [seq] */
    uint64_t stored_cap;
    uint64_t last_seq;
    uint64_t last_n[SIM_NODES_MAX]; /* Of the origin stored last, per node. */
    uint64_t last_origin[SIM_NODES_MAX];
    int64_t wrong_us; /* Clocks: when a leader last believed an agreed clock that was behind. */
    uint64_t *full_hashes; /* [index] Of the whole state, where the store took it; 0: not known. */
    uint64_t full_cap;
};

/* ---- Replicas ---- */

struct sim_replica {
    struct sim_node *node;
    unsigned group;
    uint64_t raft_id; /* 0: no replica here. */
    uint64_t lost_id; /* The last that was lost with its disk. */
    bool is_stream;
    bool was_born;
    uint64_t create_lsn;  /* Of this incarnation; 0: found in the WAL. */
    uint64_t incarnation; /* Moves when another replica takes the place. */
    /* What the node knows of meta's decision. Survives. */
    struct group_member known[SIM_NODES_MAX];
    unsigned known_count;
    uint64_t known_version;
    /* Its members by the newest configuration, committed, while it proves that it leads. */
    bool is_proving;
    bool is_target_proven;
    uint64_t proving_version;
    uint64_t proving_index;
    uint64_t proven_index;
    struct group_member proving[HOST_MEMBERS_MAX];
    unsigned proving_count;

    struct sim_state_image durable; /* Survives. */

    struct raft_group *g; /* Lost in a crash, from here on. */
    struct sim_machine m;
    struct stream *stream;
    struct stream_effects effects;
    bool is_flush_due;
    bool is_flushing;
    uint64_t state_life; /* Moves when an image replaces the state. */
    struct sim_state_image flushing;
    struct log_time time;
    struct sim_lead lead;
    struct sim_lane lane;
};

/* ---- Nodes ---- */

struct sim_time {
    int64_t wall_off_ns; /* Survives. */
    struct node_clock clock;
    struct heard_clock heard[SIM_NODES_MAX];
    bool is_up[SIM_NODES_MAX];
    bool is_sure[SIM_NODES_MAX];
    struct agreed_time agreed;
    int64_t looked_us;
};

struct sim_node {
    uint64_t late_asked; /* How often the host asked whether its turn is late. */
    struct sim_run *run;
    unsigned number;
    struct sim_disk *disk;
    struct sim_files files;
    uint64_t boot; /* Processes begun. */
    uint64_t life; /* Moves at each start and end. */
    bool is_up;
    bool is_off; /* For good. */
    bool has_restart;
    bool was_damaged; /* Since the last recovery. */
    bool was_ever_damaged;
    bool was_store_damaged; /* Ever; was_damaged is of the WAL. */

    struct sim_store *store; /* Scenario `store`, while the process runs. */
    struct wal *wal;
    struct raft_host *host;
    int64_t paused_until_us;
    int64_t stalled_until_us;
    int64_t slow_until_us;
    bool is_writing;
    uint64_t oldest_lsn;       /* Still in a file, when it was last looked at. */
    int64_t sync_fails_for_us; /* The next one does; then the process is away for so long. */
    bool is_disk_stuck;        /* As its host was told. */
    int64_t full_until_us;     /* Its disk takes no more. */
    int64_t dies_for_us;       /* In the next job of the store, to be back after so long; 0: not. */
    unsigned dies_arg;
    int64_t write_began_us;
    bool has_idle_event;
    bool has_turn;
    struct buf outs[SIM_NODES_MAX]; /* Client lane, of this turn. */
    struct sim_time time;
    struct sim_replica replicas[SIM_GROUPS_MAX];
};

#define SIM_IDS_MAX 1000u
/* What meta has decided of one group. */
struct sim_members {
    struct group_member want[SIM_NODES_MAX];
    unsigned count;
    uint64_t version; /* Of want; 0: as at birth. */
    uint64_t reached; /* The version whose members are all there, and no others. */
    uint64_t next_id;
    uint64_t gone_at[SIM_IDS_MAX];  /* By raft id, from the group's first on: no member by this
                                     * configuration, the newest that is committed. */
    uint8_t node_of[SIM_IDS_MAX];   /* Node number + 1 by raft id, as gone_at; 0: no such id. */
    uint64_t reported;              /* Index of the newest configuration that was reported. */
    uint64_t living[SIM_NODES_MAX]; /* The id given last to each node, unless it was lost. */
    int64_t since_us;
    int64_t quiet_until_us;
    struct group_member first[SIM_NODES_MAX]; /* At birth. */
    unsigned first_count;
};

struct sim_run {
    const struct sim_plan *plan;
    const struct sim_run_options *options;
    struct sim_result *result;
    struct sim_clock clock;
    struct sim_net *net;
    struct sim_oracle *oracle;
    struct sim_rng rng_disk;
    struct sim_rng rng_host;
    struct sim_rng rng_client;
    struct sim_rng rng_fsm;
    struct sim_rng rng_fault;
    struct sim_rng rng_members;
    struct sim_rng rng_store;
    unsigned streams; /* Bits: these groups are stream machines. */
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_history histories[SIM_GROUPS_MAX];
    struct sim_members members[SIM_GROUPS_MAX];
    uint64_t next_token;
    uint64_t next_value;
    uint64_t calm_token; /* Later tokens were given after the faults. */
    int64_t quiet_until_us;
    int64_t rest_until_us; /* No process begins, and no client publishes. */
    bool is_damage_planted;
    bool is_closing;
    bool is_calm;
    bool is_at_end;                    /* Nothing may be amiss any more. */
    bool is_stopped;                   /* Clients publish no more. */
    int64_t served_us[SIM_GROUPS_MAX]; /* First ack of what was published after the faults. */
    int64_t image_us;                  /* A piece of an image was sent. */
    uint64_t elections_before;
    bool is_watching_elections;
};

/* A violation, in the words of sim_oracle_fail. */
#define sim_fail(run, ...) sim_oracle_fail((run)->oracle, __VA_ARGS__)

/* ---- sim_node.c ---- */
void sim_node_init(struct sim_run *run, unsigned number);
void sim_node_close(struct sim_node *n);
void sim_node_start(struct sim_node *n);
/* The process ends; with @is_machine also what its disk had not synced. */
void sim_node_crash(struct sim_node *n, bool is_machine);
/* Its disk is lost; the process is down. */
void sim_node_new_disk(struct sim_node *n);
/* Something happened on the node: a turn follows, and the oracles look. */
void sim_node_touch(struct sim_node *n);
/* In an event of life @life: false if the process is another; if it gets no processor, the event
 * is put off. */
bool sim_node_is_current(struct sim_node *n, uint64_t life, sim_event_cb cb, void *arg, uint64_t b);
int64_t sim_node_disk_us(struct sim_node *n);
uint64_t sim_node_now_ms(const struct sim_node *n);
int64_t sim_node_now_ns(const struct sim_node *n);
/* The node that leads this group by its own word, or -1. */
int sim_leader(struct sim_run *run, unsigned group);

/* ---- sim_run.c ---- */
/* A process that is down begins again, unless its node is off or that is under way. */
void sim_restart_after(struct sim_node *n, int64_t after_us);

/* ---- sim_tap.c ---- */
/* Records the WAL of any node takes from now on are told to the oracle of @run (NULL: none). */
void sim_tap_run(struct sim_run *run);
void sim_tap_record(struct sim_node *n, uint64_t lsn, uint8_t type, uint64_t gid,
                    struct slice payload);
void sim_tap_frame(struct sim_node *n, struct slice frame);

/* Of the one run of this process. */
const struct sim_members *sim_tapped_members(unsigned group);

/* ---- sim_plant.c ---- */
/* host_receive, with SIM_PLANTED_STANDBY_COUNTS. */
int sim_plant_receive(struct sim_node *n, uint64_t from, enum host_lane lane, struct slice frame);

/* ---- sim_members.c ---- */
void sim_members_init(struct sim_run *run);
/* Open, create or give up the replica, as the node starts. */
void sim_members_open(struct sim_replica *r);
/* What it holds is of no use: it goes, and is replaced as if its disk were lost. */
void sim_members_replace(struct sim_replica *r);
/* Its disk or its records are gone: it is replaced under a new raft id. */
void sim_members_lost(struct sim_replica *r);
/* The node loses its disk; false when that would be more than any rule can bear. */
bool sim_members_wipe(struct sim_node *n);
/* Other members are wanted; @dice says which, and may say that it is too early. */
void sim_members_goal(struct sim_run *run, unsigned group, unsigned dice);
void sim_members_read_done(struct sim_replica *r, bool is_ok);
/* What is wanted is there, and nothing else. */
bool sim_members_is_level(struct sim_run *run, unsigned group);
bool sim_members_is_here(const struct sim_run *run, unsigned node, unsigned group);

/* ---- sim_replica.c ---- */
/* Another incarnation begins with nothing. The lane is the node's, and stays. */
void sim_replica_reset(struct sim_replica *r);
void sim_replica_options(struct sim_replica *r, struct group_options *ret_options);
/* Memory begins with what is durable; and ends. */
void sim_replica_load(struct sim_replica *r);
void sim_replica_unload(struct sim_replica *r);
void sim_replica_flush_soon(struct sim_replica *r, int64_t max_us);
/* What the oracles compare at this index. */
uint64_t sim_replica_hash(const struct sim_replica *r);
uint64_t sim_replica_full_hash(const struct sim_replica *r);

/* ---- sim_state.c ---- */
void sim_state_birth(struct sim_replica *r);
void sim_state_save(struct sim_replica *r, struct sim_state_image *ret_image);
/* Replace memory by the image: 0 or ERR_CORRUPT. */
int sim_state_load(struct sim_replica *r, struct slice bytes);
/* Base and hash of an encoded image. */
int sim_state_peek(struct slice bytes, struct sim_state_image *ret_image);

/* ---- sim_time.c ---- */
bool sim_time_is_on(const struct sim_run *run);
int64_t sim_time_birth_ns(const struct sim_run *run);
/* A process begins. */
void sim_time_start(struct sim_node *n);
/* True: it looked, and the others are to hear sim_time_say(). */
bool sim_time_tick(struct sim_node *n);
void sim_time_say(struct sim_node *n, struct buf *b);
void sim_time_heard(struct sim_node *n, unsigned from, struct reader *in);
void sim_time_peer(struct sim_node *n, unsigned peer, bool is_up);
/* The stream's state is that of a start, or of an entry or image that came now. */
void sim_time_loaded(struct sim_replica *r);
void sim_time_applied(struct sim_replica *r);
int64_t sim_time_now(struct sim_replica *r);
/* As cluster/js_clock.c: behind LEAD, when an own entry is applied, and each turn of who leads. */
void sim_time_lead(struct sim_replica *r);
void sim_time_lead_applied(struct sim_replica *r);
void sim_time_leads(struct sim_replica *r);
int64_t sim_time_stamp(struct sim_replica *r);
/* The first replica stored @seq; one removed what its effects say. */
void sim_time_stored(struct sim_replica *r, uint64_t seq);
void sim_time_removed(struct sim_replica *r);
/* From here on nothing is to be late. */
int64_t sim_time_settled_us(const struct sim_run *run);
void sim_time_look(struct sim_run *run);
/* Set the wall clock wrong; @which 0: right. */
void sim_time_set_wall(struct sim_node *n, unsigned which);

/* ---- sim_client.c ---- */
void sim_client_start(struct sim_run *run);
/* The leader's part begins anew with each state, the lane with each process. */
void sim_client_open(struct sim_replica *r);
void sim_client_close(struct sim_replica *r);
void sim_lane_open(struct sim_replica *r);
void sim_lane_close(struct sim_replica *r);
void sim_client_role(struct sim_replica *r, const struct group_role *role);
/* The entry that was proposed here with @token is applied, its effects are in r->effects. */
void sim_client_effects(struct sim_replica *r, uint64_t index, uint64_t token);
void sim_client_lost(struct sim_replica *r);
/* STORE effects of any replica. */
void sim_client_stores(struct sim_replica *r, uint64_t index);
void sim_client_frame(struct sim_node *n, unsigned from, struct slice frame);
void sim_client_peer(struct sim_node *n, unsigned peer, bool is_up);
void sim_client_tick(struct sim_node *n);
/* To the store of another node, or of this one (sim_store.h). */
void sim_client_send_store(struct sim_node *n, unsigned to, struct slice item);
#define SIM_BYTES_MAX 8192u
/* The message that a uid stands for. */
struct sim_message_bytes {
    char subject[32];
    char header[80]; /* "" without an id. */
    char id[24];
    uint8_t payload[SIM_BYTES_MAX];
    size_t payload_bytes;
};
void sim_client_message(const struct sim_plan *plan, uint64_t uid, bool has_id,
                        struct sim_message_bytes *ret_message);
/* Propose, and send what the turn has made. */
void sim_client_turn(struct sim_node *n);
bool sim_client_is_idle(const struct sim_node *n);
void sim_history_close(struct sim_history *h);
#endif
