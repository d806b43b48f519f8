#include "tests/unit/raft_puppet.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/base/crc32c.h"
#include "storage/base/err.h"

enum { EXIT_HOLDS = 40, EXIT_BROKEN, EXIT_STRANGE };

_Noreturn void puppet_strange(const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: the schedule relies on: %s\n", file, line, text);
    fflush(NULL);
    _exit(EXIT_STRANGE);
}

enum puppet_outcome puppet_play(puppet_schedule schedule, uint64_t guards_off)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        bool held = schedule(guards_off);
        fflush(NULL);
        _exit(held ? EXIT_HOLDS : EXIT_BROKEN);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return PUPPET_STRANGE;
    }
    if (!WIFEXITED(status)) {
        return WTERMSIG(status) == SIGALRM ? PUPPET_STRANGE : PUPPET_DIED;
    }
    switch (WEXITSTATUS(status)) {
    case EXIT_HOLDS:
        return PUPPET_HOLDS;
    case EXIT_BROKEN:
        return PUPPET_BROKEN;
    case EXIT_STRANGE:
        return PUPPET_STRANGE;
    default:
        return PUPPET_DIED;
    }
}

/* ---- The environment ---- */

static void env_send(void *ctx, uint64_t node_id, enum host_lane lane, struct slice frame)
{
    struct puppet *p = ctx;
    struct reader r;
    struct frame_item it;
    (void)lane;
    must(frame_open(frame, &r) == 0);
    while (frame_next(&r, &it) == 0) {
        struct said *s = xcalloc(1, sizeof *s);
        s->node = node_id;
        s->item = it;
        buf_append_slice(&s->bytes, it.bytes);
        s->item.bytes = buf_slice(&s->bytes);
        list_push_back(&p->said, &s->link);
    }
}

static uint64_t env_room(void *ctx, uint64_t node_id, enum host_lane lane)
{
    (void)node_id;
    (void)lane;
    return ((struct puppet *)ctx)->is_room_none ? 0 : UINT64_MAX;
}

static uint64_t env_random(void *ctx)
{
    struct puppet *p = ctx;
    p->rng ^= p->rng << 13;
    p->rng ^= p->rng >> 7;
    p->rng ^= p->rng << 17;
    return p->rng >> 8;
}

static bool env_is_late(void *ctx)
{
    return ((struct puppet *)ctx)->is_late;
}

static void env_alarm(void *ctx, uint64_t gid, const char *text)
{
    (void)gid;
    (void)text;
    ((struct puppet *)ctx)->alarms++;
}

/* ---- The machine ---- */

static void fsm_apply(void *ctx, const struct group_entry *e)
{
    struct puppet *p = ctx;
    must(e->index < PUPPET_INDEXES);
    struct applied_entry now = {.term = e->term, .is_command = e->type == GROUP_ENTRY_COMMAND};
    memcpy(now.text, e->bytes.ptr == NULL ? (const uint8_t *)"" : e->bytes.ptr,
           e->bytes.len < sizeof now.text - 1 ? e->bytes.len : sizeof now.text - 1);
    struct applied_entry *at = &p->entries[e->index];
    p->rewritten += at->term != 0 && memcmp(at, &now, sizeof now) != 0;
    *at = now;
    p->applied = (struct group_base){e->index, e->term};
    p->own += e->token != 0;
}

static void fsm_lost(void *ctx, uint64_t token, enum group_lost why)
{
    (void)token;
    (void)why;
    ((struct puppet *)ctx)->lost++;
}

static void fsm_role(void *ctx, const struct group_role *role)
{
    ((struct puppet *)ctx)->role = *role;
}

static void fsm_read_done(void *ctx, uint64_t token, bool is_ok, uint64_t index)
{
    (void)ctx;
    (void)token;
    (void)is_ok;
    (void)index;
}

static struct group_base fsm_base(void *ctx)
{
    return ((struct puppet *)ctx)->base;
}

static void image_opened(struct puppet *p, struct host_job *job)
{
    struct group_part part = {8, crc32c(0, "12345678", 8)};
    host_image_opened(job, 0, p, p->base, &part, 1);
}

/* What is durable, if it will do. */
static void fsm_image_open(void *ctx, uint64_t index_min, struct host_job *job)
{
    struct puppet *p = ctx;
    p->images_opened++;
    if (p->is_image_held) {
        p->image_job = job;
        return;
    }
    p->base = p->base.index < index_min ? p->applied : p->base;
    image_opened(p, job);
}

void puppet_open_image(struct puppet *p)
{
    struct host_job *job = p->image_job;
    p->image_job = NULL;
    p->base = p->applied;
    image_opened(p, job);
    puppet_settle(p);
}

static void fsm_image_read(void *ctx, void *image, uint32_t part, uint64_t off, uint8_t *buf,
                           size_t len, struct host_job *job)
{
    (void)ctx;
    (void)image;
    (void)part;
    memcpy(buf, "12345678" + off, len);
    host_job_done(job, 0);
}

static void fsm_image_close(void *ctx, void *image)
{
    (void)ctx;
    (void)image;
}

static int fsm_stage_open(void *ctx, struct group_base base, const struct group_part *parts,
                          uint32_t parts_count, void **ret_stage)
{
    (void)ctx;
    must(parts_count == 1 && parts[0].bytes == 8);
    struct group_base *stage = xmalloc(sizeof *stage);
    *stage = base;
    *ret_stage = stage;
    return 0;
}

static void fsm_stage_write(void *ctx, void *stage, uint32_t part, uint64_t off, struct slice bytes,
                            struct host_job *job)
{
    (void)ctx;
    (void)stage;
    (void)part;
    (void)off;
    (void)bytes;
    host_job_done(job, 0);
}

static void fsm_stage_verify(void *ctx, void *stage, struct host_job *job)
{
    (void)ctx;
    (void)stage;
    host_job_done(job, 0);
}

static void fsm_stage_switch(void *ctx, void *stage, struct host_job *job)
{
    struct puppet *p = ctx;
    if (!p->is_switch_late) {
        p->base = p->applied = *(struct group_base *)stage;
        p->switched++;
    }
    free(stage);
    if (p->is_stage_held) {
        p->stage_job = job;
        return;
    }
    host_job_done(job, 0);
}

static void fsm_stage_drop(void *ctx, void *stage)
{
    (void)ctx;
    free(stage);
}

static struct group_options group_options_of(struct puppet *p)
{
    return (struct group_options){.gid = 1,
                                  .raft_id = ID(1),
                                  .fsm = {.apply = fsm_apply,
                                          .lost = fsm_lost,
                                          .role_changed = fsm_role,
                                          .read_done = fsm_read_done,
                                          .base = fsm_base,
                                          .image_open = fsm_image_open,
                                          .image_read = fsm_image_read,
                                          .image_close = fsm_image_close,
                                          .stage_open = fsm_stage_open,
                                          .stage_write = fsm_stage_write,
                                          .stage_verify = fsm_stage_verify,
                                          .stage_switch = fsm_stage_switch,
                                          .stage_drop = fsm_stage_drop,
                                          .ctx = p},
                                  .priority = 1,
                                  .has_known_members = p->has_known};
}

/* ---- Life ---- */

static void host_begin(struct puppet *p)
{
    struct host_options o = p->options;
    o.node_id = 1;
    o.env = (struct host_env){.send = env_send,
                              .room = env_room,
                              .random = env_random,
                              .is_late = env_is_late,
                              .alarm = env_alarm,
                              .ctx = p};
    p->host = host_new(&o);
    struct wal_replay replay = host_wal_replay(p->host);
    uint64_t segment_bytes = p->segment_bytes != 0 ? p->segment_bytes : 4u << 20;
    struct wal_options wo = {.ops = sim_disk_ops(p->disk),
                             .dir = "/wal",
                             .segment_bytes_min = segment_bytes,
                             .segment_bytes_max = segment_bytes,
                             .frame_bytes_max = 4u << 20,
                             .salt_seed = 1,
                             .try_direct = true};
    struct wal_recovery recovery;
    must(wal_open(&wo, &replay, &recovery, &p->wal) == 0);
    host_open(p->host, p->wal, p->now_ms);
    puppet_peers_up(p, ~0u);
}

void puppet_open_with(struct puppet *p, unsigned voters, unsigned standbys,
                      const struct host_options *options)
{
    struct group_member members[PUPPET_NODES];
    unsigned count = 0;
    for (unsigned n = 1; n <= PUPPET_NODES; n++) {
        unsigned bit = 1u << (n - 1);
        if (((voters | standbys) & bit) != 0) {
            members[count++] =
                (struct group_member){ID(n), n, (voters & bit) != 0 ? GROUP_VOTER : GROUP_STANDBY};
        }
    }
    puppet_open_members(p, members, count, options);
}

void puppet_open_members(struct puppet *p, const struct group_member *members, unsigned count,
                         const struct host_options *options)
{
    memset(p, 0, sizeof *p);
    p->options = *options;
    p->rng = 88172645463325252ull;
    p->now_ms = 1000;
    list_init(&p->said);
    p->disk = sim_disk_new(1);
    const struct file_ops *ops = sim_disk_ops(p->disk);
    must(ops->mkdir(ops->ctx, "/wal") == 0);
    must(ops->sync_dir(ops->ctx, "/") == 0);
    memcpy(p->members, members, count * sizeof *members);
    p->members_count = count;
    host_begin(p);
    struct group_options go = group_options_of(p);
    must(group_create(p->host, &go, p->members, p->members_count, &p->group) == 0);
    puppet_settle(p);
}

void puppet_open(struct puppet *p, unsigned voters, unsigned standbys, uint64_t guards_off)
{
    struct host_options o = {.guards_off = guards_off};
    puppet_open_with(p, voters, standbys, &o);
}

void puppet_peers_up(struct puppet *p, unsigned nodes)
{
    for (unsigned i = 0; i < p->members_count; i++) {
        uint64_t node = p->members[i].node_id;
        if (node != 1 && (nodes >> (node - 1) & 1) != 0) {
            host_peer_up(p->host, node);
        }
    }
}

void puppet_forget(struct puppet *p)
{
    struct list *l;
    while ((l = list_pop_front(&p->said)) != NULL) {
        struct said *s = container_of(l, struct said, link);
        buf_close(&s->bytes);
        free(s);
    }
}

void puppet_crash(struct puppet *p)
{
    host_close(p->host);
    wal_close(p->wal);
    sim_disk_crash_all(p->disk, false);
    p->group = NULL;
    p->stage_job = p->image_job = NULL;
    puppet_forget(p);
    p->applied = p->base;
}

struct rot {
    struct puppet *puppet;
    const char *text;
    bool is_done;
};

static void rot_file(void *arg, const char *path)
{
    struct rot *r = arg;
    const uint8_t *bytes = sim_disk_bytes(r->puppet->disk, path);
    uint64_t size = sim_disk_file_size(r->puppet->disk, path), len = strlen(r->text);
    for (uint64_t at = 0; at + len <= size && !r->is_done; at++) {
        if (memcmp(bytes + at, r->text, len) == 0) {
            r->is_done = sim_disk_flip_bit(r->puppet->disk, path, at * 8);
        }
    }
}

bool puppet_rot(struct puppet *p, const char *text)
{
    struct rot r = {p, text, false};
    sim_disk_each(p->disk, rot_file, &r);
    return r.is_done;
}

int puppet_restart(struct puppet *p)
{
    host_begin(p);
    struct group_options go = group_options_of(p);
    int rv = group_open(p->host, &go, &p->group);
    if (rv == 0) {
        puppet_settle(p);
    }
    return rv;
}

void puppet_disk(struct puppet *p)
{
    const char *path;
    if (p->is_disk_held) {
        return;
    }
    while (wal_batch_take(p->wal)) {
        must(wal_batch_write(p->wal, &path) == 0);
        wal_batch_done(p->wal);
    }
    host_durable(p->host, wal_durable_lsn(p->wal));
}

void puppet_settle(struct puppet *p)
{
    for (unsigned i = 0; i < 6; i++) {
        host_turn_end(p->host);
        puppet_disk(p);
    }
    host_turn_end(p->host);
}

void puppet_run(struct puppet *p, uint64_t ms)
{
    for (uint64_t end = p->now_ms + ms; p->now_ms < end;) {
        p->now_ms += 10;
        host_tick(p->host, p->now_ms);
        puppet_settle(p);
    }
}

/* ---- Saying ---- */

static void put_frame(struct puppet *p, unsigned from, const struct frame_item *item,
                      unsigned count, const struct puppet_entry *entries)
{
    struct buf frame = BUF_EMPTY;
    frame_begin(&frame);
    struct frame_item it = *item;
    it.gid = 1;
    it.from = ID(from);
    it.to = p->to == 0 ? ID(1) : p->to;
    size_t at = frame_put(&frame, &it);
    for (unsigned i = 0; i < count; i++) {
        const struct puppet_entry *e = &entries[i];
        struct buf bytes = BUF_EMPTY;
        if (e->type == COMMAND) {
            buf_append_str(&bytes, e->text);
        } else if (e->type == CHANGE) {
            struct conf c = {0};
            for (unsigned n = 1; n <= PUPPET_NODES; n++) {
                unsigned bit = 1u << (n - 1);
                if (((e->voters | e->standbys) & bit) != 0) {
                    c.members[c.count++] = (struct group_member){
                        ID(n), n, (e->voters & bit) != 0 ? GROUP_VOTER : GROUP_STANDBY};
                }
            }
            conf_encode(&c, &bytes);
        } else {
            buf_append_u64(&bytes, 0);
        }
        frame_entry_head(&frame, e->term, (uint8_t)e->type, bytes.len);
        buf_append_slice(&frame, buf_slice(&bytes));
        buf_close(&bytes);
    }
    if (count > 0) {
        frame_item_end(&frame, at);
    }
    bool is_bulk = it.kind >= FRAME_OFFER && it.kind <= FRAME_DONE;
    must(host_receive(p->host, from, is_bulk ? HOST_LANE_BULK : HOST_LANE_RAFT,
                      buf_slice(&frame)) == 0);
    buf_close(&frame);
}

void puppet_say(struct puppet *p, unsigned from, const struct frame_item *item)
{
    put_frame(p, from, item, 0, NULL);
}

void puppet_entries(struct puppet *p, unsigned from, uint64_t term, uint64_t prev,
                    uint64_t prev_term, uint64_t commit, unsigned count,
                    const struct puppet_entry *entries)
{
    struct frame_item it = {.kind = FRAME_ENTRIES,
                            .term = term,
                            .index = prev,
                            .index_term = prev_term,
                            .commit = commit,
                            .count = count};
    put_frame(p, from, &it, count, entries);
    puppet_settle(p);
}

void puppet_commands(struct puppet *p, unsigned from, uint64_t term, uint64_t prev,
                     uint64_t prev_term, uint64_t commit, unsigned count, const char *text)
{
    struct puppet_entry *entries = xcalloc(count, sizeof *entries);
    for (unsigned i = 0; i < count; i++) {
        entries[i] = (struct puppet_entry){.term = term, .type = COMMAND, .text = text};
    }
    puppet_entries(p, from, term, prev, prev_term, commit, count, entries);
    free(entries);
}

static void say_and_settle(struct puppet *p, unsigned from, struct frame_item it)
{
    puppet_say(p, from, &it);
    puppet_settle(p);
}

void puppet_result(struct puppet *p, unsigned from, uint64_t term, uint64_t rejected,
                   uint64_t last_index)
{
    say_and_settle(
        p, from,
        (struct frame_item){
            .kind = FRAME_RESULT, .term = term, .index = rejected, .last_index = last_index});
}

void puppet_vote(struct puppet *p, unsigned from, uint64_t term, uint64_t last_index,
                 uint64_t last_term, uint8_t flags)
{
    say_and_settle(p, from,
                   (struct frame_item){.kind = FRAME_VOTE,
                                       .term = term,
                                       .index = last_index,
                                       .index_term = last_term,
                                       .flags = flags});
}

void puppet_vote_result(struct puppet *p, unsigned from, uint64_t term, bool is_granted,
                        bool is_pre)
{
    uint8_t flags =
        (uint8_t)((is_granted ? FRAME_RESULT_GRANTED : 0) | (is_pre ? FRAME_RESULT_PRE : 0));
    say_and_settle(p, from,
                   (struct frame_item){.kind = FRAME_VOTE_RESULT, .term = term, .flags = flags});
}

void puppet_timeout_now(struct puppet *p, unsigned from, uint64_t term, uint64_t last_index,
                        uint64_t last_term)
{
    say_and_settle(
        p, from,
        (struct frame_item){
            .kind = FRAME_TIMEOUT_NOW, .term = term, .index = last_index, .index_term = last_term});
}

void puppet_table(struct puppet *p, unsigned from, uint64_t term, uint64_t last_index,
                  uint64_t last_term)
{
    say_and_settle(
        p, from,
        (struct frame_item){
            .kind = FRAME_TABLE, .term = term, .index = last_index, .index_term = last_term});
}

void puppet_offer(struct puppet *p, unsigned from, uint64_t term, uint64_t offer, uint64_t index,
                  uint64_t index_term)
{
    struct conf c = {.count = p->members_count};
    struct buf bytes = BUF_EMPTY;
    memcpy(c.members, p->members, p->members_count * sizeof c.members[0]);
    conf_encode(&c, &bytes);
    say_and_settle(p, from,
                   (struct frame_item){.kind = FRAME_OFFER,
                                       .seq = offer,
                                       .term = term,
                                       .index = index,
                                       .index_term = index_term,
                                       .conf_index = 1,
                                       .count = 1,
                                       .bytes = buf_slice(&bytes)});
    buf_close(&bytes);
}

void puppet_serve(struct puppet *p, unsigned from, uint64_t offer)
{
    const struct frame_item *pull;
    while ((pull = puppet_heard(p, FRAME_PULL, from)) != NULL && pull->seq == offer) {
        struct buf bytes = BUF_EMPTY;
        if (pull->part == FRAME_PART_TABLE) {
            buf_append_u64(&bytes, 8);
            buf_append_u32(&bytes, crc32c(0, "12345678", 8));
        } else {
            buf_append_str(&bytes, "12345678");
        }
        struct frame_item chunk = {.kind = FRAME_CHUNK,
                                   .seq = offer,
                                   .part = pull->part,
                                   .offset = pull->offset,
                                   .crc = crc32c(0, bytes.ptr, bytes.len),
                                   .bytes = buf_slice(&bytes)};
        puppet_forget(p);
        say_and_settle(p, from, chunk);
        buf_close(&bytes);
    }
}

/* ---- Hearing ---- */

const struct frame_item *puppet_heard(struct puppet *p, enum frame_kind kind, unsigned to)
{
    const struct frame_item *found = NULL;
    LIST_FOR(it, &p->said)
    {
        struct said *s = container_of(it, struct said, link);
        if (s->item.kind == kind && (to == 0 || s->node == to)) {
            found = &s->item;
        }
    }
    return found;
}

unsigned puppet_heard_count(struct puppet *p, enum frame_kind kind, unsigned to)
{
    unsigned n = 0;
    LIST_FOR(it, &p->said)
    {
        struct said *s = container_of(it, struct said, link);
        n += s->item.kind == kind && (to == 0 || s->node == to);
    }
    return n;
}

bool puppet_sent(struct puppet *p, unsigned to, uint64_t index, struct applied_entry *ret_entry)
{
    bool is_found = false;
    LIST_FOR(it, &p->said)
    {
        struct said *s = container_of(it, struct said, link);
        struct frame_item walk = s->item;
        struct frame_entry e;
        if (walk.kind != FRAME_ENTRIES || s->node != to) {
            continue;
        }
        for (uint64_t i = walk.index + 1; frame_entry_next(&walk, &e) == 0; i++) {
            if (i == index) {
                *ret_entry = (struct applied_entry){e.term, e.type == COMMAND, ""};
                memcpy(ret_entry->text, e.bytes.ptr,
                       e.bytes.len < sizeof ret_entry->text - 1 ? e.bytes.len
                                                                : sizeof ret_entry->text - 1);
                is_found = true;
            }
        }
    }
    return is_found;
}

/* ---- Short cuts ---- */

uint64_t puppet_ask(struct puppet *p, unsigned voter)
{
    group_campaign(p->group);
    for (unsigned i = 0; i < 1000; i++) {
        puppet_run(p, 10);
        const struct frame_item *v = puppet_heard(p, FRAME_VOTE, voter);
        if (v != NULL && (v->flags & FRAME_VOTE_PRE) == 0) {
            return v->term;
        }
        if (v != NULL) {
            uint64_t term = v->term;
            puppet_forget(p);
            puppet_vote_result(p, voter, term, true, true);
        }
    }
    return 0;
}

bool puppet_campaign(struct puppet *p, unsigned voter)
{
    uint64_t term = puppet_ask(p, voter);
    if (term == 0) {
        return false;
    }
    puppet_vote_result(p, voter, term, true, false);
    return puppet_status(p).is_core_leader;
}

void puppet_lead(struct puppet *p, unsigned voter)
{
    must(puppet_campaign(p, voter));
    struct group_status s = puppet_status(p);
    puppet_result(p, voter, s.role.term, 0, s.last_index);
    must(group_role(p->group).is_leader);
}

int puppet_propose(struct puppet *p, const char *text)
{
    int rv = group_propose(p->group, slice_of(text, strlen(text)), 1);
    puppet_settle(p);
    return rv;
}

struct group_status puppet_status(struct puppet *p)
{
    struct group_status s;
    group_status(p->group, &s);
    return s;
}

bool puppet_applied(struct puppet *p, uint64_t index, uint64_t term, const char *text)
{
    const struct applied_entry *e = &p->entries[index];
    return p->applied.index >= index && e->term == term &&
           strncmp(e->text, text, sizeof e->text) == 0;
}
