/* Golden logs of the meta machine: golden_log.h with time 0 and an empty configuration. The term of
 * a step is 0. The state hash is meta_hash(), the effects hash is of the events: whose, what, for
 * which stream or node, and who asked; texts of errors a build may word anew. */
#ifndef TESTS_GOLDEN_GOLDEN_META_H
#define TESTS_GOLDEN_GOLDEN_META_H
#include "broker/meta.h"
#include "tests/golden/golden_log.h"

#define GOLDEN_EVENTS "crupdxnm" /* One letter each, in the order of struct meta_events. */

struct golden_meta {
    struct meta *m;
    struct buf events;  /* Of the last entry. */
    char seen[32];      /* The letters of all events so far, each once. */
    int error_codes[8]; /* Of all refusals so far, each once; then zeros. */
};

void golden_meta_open(struct golden_meta *g);
void golden_meta_close(struct golden_meta *g);
/* meta_apply(), and the hashes afterwards. */
int golden_meta_step(struct golden_meta *g, uint64_t index, struct slice entry,
                     struct golden_step *ret_step);
#endif
