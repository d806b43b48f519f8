/* A golden log: the entries of one stream, and what was true after each.
 *
 *   file     magic "WEIRGLD1", created_ns i64, config length u32, config, step...
 *   step     term u64, entry length u32, entry, state hash u64, effects hash u64
 *
 * Numbers are little-endian. The state hash is stream_hash(). The effects hash is of what every
 * replica carries out: messages to store and to remove; answers are the leader's alone, and a build
 * may word them anew. */
#ifndef TESTS_GOLDEN_GOLDEN_LOG_H
#define TESTS_GOLDEN_GOLDEN_LOG_H
#include "broker/stream.h"

#define GOLDEN_MAGIC "WEIRGLD1"

struct golden_step {
    uint64_t term;
    struct slice entry;
    uint64_t state_hash;
    uint64_t effects_hash;
};

struct golden_log {
    int64_t created_ns;
    struct slice config;
    struct reader steps;
};

/* Borrows @file. False: it is none. */
bool golden_log_open(struct golden_log *log, struct slice file);
/* 1, 0 at the end, -1: cut off. */
int golden_log_next(struct golden_log *log, struct golden_step *ret_step);

uint64_t golden_effects_hash(const struct stream_effects *e);

void golden_log_begin(struct buf *out, int64_t created_ns, struct slice config);
void golden_log_add(struct buf *out, const struct golden_step *step);
#endif
