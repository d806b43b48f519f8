/* A store on a simulated disk, and a model of what it should hold. */
#ifndef TESTS_UNIT_STORE_WORLD_H
#define TESTS_UNIT_STORE_WORLD_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/store.h"
#include "tests/lib/sim_disk.h"

#define GIDS 3u
#define SEQS_MAX 4096u
#define KEYS 6u

/* ---- A model: what a stream should hold ---- */

struct model_message {
    bool is_live;
    int64_t time_ns;
    uint8_t flags;
    uint32_t salt; /* Subject, header and payload follow from it. */
};

struct model {
    uint64_t index; /* Applied. */
    uint64_t last_seq;
    struct model_message messages[SEQS_MAX];
    uint32_t items[KEYS]; /* 0: absent. */
};

struct content {
    char subject[32];
    uint8_t header[64];
    uint8_t payload[1024];
    struct store_message m;
};

struct world {
    struct sim_disk *disk;
    struct store *st;
    struct store_recovery rec;
    struct model now[GIDS + 1];
    unsigned damages;
    uint64_t damaged_count; /* Messages in ranges that were reported. */
    size_t journal_bytes;   /* No new generation below it; 0: 4096. */
    bool is_tolerant;       /* Damage is expected: what cannot be read must be reported. */
};

uint64_t rng_below(uint64_t *state, uint64_t n);
void make_content(struct content *c, uint64_t gid, uint64_t seq, const struct model_message *mm);
int world_open(struct world *w);
struct world *world_new(uint64_t seed);
void world_free(struct world *w);
struct store_stream *world_stream(struct world *w, uint64_t gid);
void world_append(struct world *w, uint64_t gid, uint64_t gap, uint64_t *rng);
void world_remove(struct world *w, uint64_t gid, uint64_t first, uint64_t last);
int world_read(struct world *w, struct store_stream *s, uint64_t seq, struct store_view *v);
bool view_is(const struct store_view *v, const struct store_message *m);
void world_check_reads(struct world *w, uint64_t gid, const struct model *m);
/* Load the stream, and compare what is handed out. Returns as store_stream_load(). */
int world_load(struct world *w, uint64_t gid, const struct model *m);
void world_check_stream(struct world *w, uint64_t gid, const struct model *m);
struct store_flush *world_flush_begin(struct world *w, unsigned gids, uint64_t *rng);
void world_flush(struct world *w, unsigned gids, uint64_t *rng);
void world_reopen(struct world *w);
void world_random_op(struct world *w, uint64_t gid, uint64_t *rng);
#endif
