/* One node with the production group host on a WAL on a disk in memory; its peers are puppets: the
 * test says what they send, and reads what the node sent them. Each call, each sync and each tick
 * happens when the test says so, thus a schedule plays the same way each time.
 *
 * The node is node 1, its replica has raft id 101; the puppet on node n has 100 + n. Group 1.
 *
 * A schedule runs in a process of its own (puppet_play): without a guard libraft corrupts memory.
 */
#ifndef TESTS_UNIT_RAFT_PUPPET_H
#define TESTS_UNIT_RAFT_PUPPET_H
#include <stdio.h>

#include "raft/frames.h"
#include "raft/host.h"
#include "storage/base/list.h"
#include "tests/lib/sim_disk.h"

#define PUPPET_INDEXES 4096
#define PUPPET_NODES 6
#define ID(node) (100u + (node))

/* What the node sent. */
struct said {
    struct list link;
    uint64_t node;
    struct frame_item item; /* Its bytes are in `bytes`. */
    struct buf bytes;
};

struct applied_entry {
    uint64_t term;
    bool is_command;
    char text[16]; /* The entry's first bytes. */
};

struct puppet {
    struct host_options options;
    struct group_member members[PUPPET_NODES];
    unsigned members_count;
    struct sim_disk *disk;
    struct wal *wal;
    struct raft_host *host;
    struct raft_group *group;
    uint64_t now_ms;
    uint64_t rng;
    uint64_t segment_bytes; /* Of the WAL from the next start on; 0: 4 MiB. */
    bool is_disk_held;      /* Nothing becomes durable. */
    bool is_late;           /* Each turn delivers one entry. */
    bool is_room_none;      /* The connections take nothing; what is sent stays queued. */
    bool is_stage_held;     /* The switch to an image stays pending, see stage_job. */
    bool is_switch_late;    /* Nor has the store switched. */
    struct host_job *stage_job;
    bool is_image_held; /* Opening an image stays pending, see image_job. */
    struct host_job *image_job;
    bool is_created;
    bool has_known; /* From the next restart on group_set_known_members() is waited for. */
    uint64_t to;    /* Whom the puppets mean, 0: the replica of the node. */
    struct list said;
    unsigned alarms;
    /* The machine: lost in a crash … */
    struct group_base applied;
    struct applied_entry entries[PUPPET_INDEXES];
    unsigned rewritten; /* Indexes applied with another entry than before; never reset. */
    uint64_t own;       /* Applied with their token. */
    uint64_t lost;      /* Ended without. */
    struct group_role role;
    /* … and not. */
    struct group_base base;
    unsigned images_opened;
    unsigned switched; /* Times the store switched to an image. */
};

/* A schedule: whether the property held. */
typedef bool (*puppet_schedule)(uint64_t guards_off);

enum puppet_outcome { PUPPET_HOLDS, PUPPET_BROKEN, PUPPET_DIED, PUPPET_STRANGE };
/* Run it in a child process. DIED: by a signal, or by a sanitizer. STRANGE: must() failed. */
enum puppet_outcome puppet_play(puppet_schedule schedule, uint64_t guards_off);

/* What a schedule relies on, guard or not. */
#define must(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            puppet_strange(__FILE__, __LINE__, #cond);                                             \
        }                                                                                          \
    } while (0)
_Noreturn void puppet_strange(const char *file, int line, const char *text);

/* A node and its replica, with these voters and standbys: bit n - 1 stands for node n. */
void puppet_open(struct puppet *p, unsigned voters, unsigned standbys, uint64_t guards_off);
/* The same with host_options; guards_off is in it. */
void puppet_open_with(struct puppet *p, unsigned voters, unsigned standbys,
                      const struct host_options *options);
/* The same with these members, in this order. */
void puppet_open_members(struct puppet *p, const struct group_member *members, unsigned count,
                         const struct host_options *options);
/* Power cut: memory and what was not synced are gone, and so is what was sent but not read. */
void puppet_crash(struct puppet *p);
/* Start again; what group_open says. */
int puppet_restart(struct puppet *p);
/* Flip a bit of this text, wherever on the disk it is; false if it is nowhere. */
bool puppet_rot(struct puppet *p, const char *text);
/* Connections to the members on these nodes (a mask). */
void puppet_peers_up(struct puppet *p, unsigned nodes);

/* Sync (unless held) and end turns, until nothing more happens. */
void puppet_settle(struct puppet *p);
/* @ms of time in steps of 10 ms. */
void puppet_run(struct puppet *p, uint64_t ms);
/* No time passes, but the disk does what is queued. */
void puppet_disk(struct puppet *p);

/* ---- What the puppets say. All settle afterwards, unless the name says so. ---- */

struct puppet_entry {
    uint64_t term;
    enum { COMMAND = 1, BARRIER = 2, CHANGE = 3 } type;
    const char *text;          /* COMMAND. */
    unsigned voters, standbys; /* CHANGE. */
};
/* AppendEntries from node @from. */
void puppet_entries(struct puppet *p, unsigned from, uint64_t term, uint64_t prev,
                    uint64_t prev_term, uint64_t commit, unsigned count,
                    const struct puppet_entry *entries);
/* @count commands of @term after @prev, all with the text @text. */
void puppet_commands(struct puppet *p, unsigned from, uint64_t term, uint64_t prev,
                     uint64_t prev_term, uint64_t commit, unsigned count, const char *text);
void puppet_result(struct puppet *p, unsigned from, uint64_t term, uint64_t rejected,
                   uint64_t last_index);
#define PUPPET_PRE FRAME_VOTE_PRE
#define PUPPET_DISRUPT FRAME_VOTE_DISRUPT
void puppet_vote(struct puppet *p, unsigned from, uint64_t term, uint64_t last_index,
                 uint64_t last_term, uint8_t flags);
void puppet_vote_result(struct puppet *p, unsigned from, uint64_t term, bool is_granted,
                        bool is_pre);
void puppet_timeout_now(struct puppet *p, unsigned from, uint64_t term, uint64_t last_index,
                        uint64_t last_term);
void puppet_table(struct puppet *p, unsigned from, uint64_t term, uint64_t last_index,
                  uint64_t last_term);
/* An image of @index with the first configuration, in one part of 8 bytes. */
void puppet_offer(struct puppet *p, unsigned from, uint64_t term, uint64_t offer, uint64_t index,
                  uint64_t index_term);
/* End image_job: what is applied by now is the image. */
void puppet_open_image(struct puppet *p);
/* Answer the PULLs for that image, until the node asks no more. */
void puppet_serve(struct puppet *p, unsigned from, uint64_t offer);
/* Any item, without settling. */
void puppet_say(struct puppet *p, unsigned from, const struct frame_item *item);

/* ---- What the node says ---- */

/* The newest of a kind to node @to (0: any); NULL. */
const struct frame_item *puppet_heard(struct puppet *p, enum frame_kind kind, unsigned to);
unsigned puppet_heard_count(struct puppet *p, enum frame_kind kind, unsigned to);
void puppet_forget(struct puppet *p);
/* The newest entry sent to @to under @index; false if there is none. */
bool puppet_sent(struct puppet *p, unsigned to, uint64_t index, struct applied_entry *ret_entry);

/* ---- Short cuts ---- */

/* Campaign, by the host or the timer, for up to 10 s; @voter grants the pre-vote. The term in which
 * the node asks @voter for its vote, 0: it does not. */
uint64_t puppet_ask(struct puppet *p, unsigned voter);
/* The same, and @voter grants the vote too; false if it did not ask. The barrier is not
 * acknowledged. */
bool puppet_campaign(struct puppet *p, unsigned voter);
/* The same, and @voter acknowledges the barrier: the node leads. */
void puppet_lead(struct puppet *p, unsigned voter);
int puppet_propose(struct puppet *p, const char *text);
struct group_status puppet_status(struct puppet *p);
/* Was this applied at @index? */
bool puppet_applied(struct puppet *p, uint64_t index, uint64_t term, const char *text);
#endif
