#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

#include "broker/msg_index.h"

static void add(struct msg_index *x, uint64_t seq, const char *subject)
{
    struct slice text = slice_str(subject);
    uint32_t id = subject_table_add(&x->subjects, text, subject_hash(text));
    msg_index_add(x, seq, (int64_t)seq, id, 10);
}

Test(msg_index, a_segment_that_was_empty_is_filled_again)
{
    struct msg_index x;
    struct msg_info info;
    msg_index_init(&x);
    add(&x, 1, "kept");
    add(&x, MSG_SEGMENT_SEQS + 1, "a");
    cr_assert(msg_index_remove(&x, MSG_SEGMENT_SEQS + 1));
    add(&x, MSG_SEGMENT_SEQS + 2, "a");
    add(&x, 2 * MSG_SEGMENT_SEQS, "a");
    cr_assert(msg_index_get(&x, MSG_SEGMENT_SEQS + 2, &info));
    cr_assert(msg_index_remove(&x, MSG_SEGMENT_SEQS + 2));
    cr_assert(msg_index_remove(&x, 2 * MSG_SEGMENT_SEQS));
    cr_assert_eq(x.count, 1);
    msg_index_close(&x);
}

/* Few live ones over many segments, the newest gone as often as old ones. */
static void live(uint64_t seed)
{
    enum { SEQS = 12 * MSG_SEGMENT_SEQS };
    bool *is_live = calloc(SEQS, 1);
    struct msg_index x;
    uint64_t rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    uint64_t count = 0;
    msg_index_init(&x);
    for (uint64_t seq = 1; seq < SEQS; seq++) {
        rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407u;
        if (rng >> 60 < 4) {
            char subject[8] = "s.0";
            subject[2] = (char)('0' + (rng >> 40) % 5);
            add(&x, seq, subject);
            is_live[seq] = true;
            count++;
        }
        uint64_t back = (rng >> 50) % 3 == 0 ? seq - 1 : (rng >> 20) % 60;
        uint64_t at = seq - (back < seq ? back : seq - 1);
        bool is_kept = at == 1 && seed % 2 == 0;
        if (rng >> 61 < 6 && !is_kept) {
            cr_assert_eq(msg_index_remove(&x, at), is_live[at], "seed %" PRIu64 ", %" PRIu64, seed,
                         at);
            count -= is_live[at];
            is_live[at] = false;
        }
        cr_assert_eq(x.count, count);
    }
    for (uint64_t seq = 1, above = msg_index_at_or_above(&x, 1); seq < SEQS; seq++) {
        struct msg_info info;
        cr_assert_eq(msg_index_get(&x, seq, &info), is_live[seq], "seed %" PRIu64 ", %" PRIu64,
                     seed, seq);
        if (is_live[seq]) {
            cr_assert_eq(above, seq);
            above = msg_index_at_or_above(&x, seq + 1);
        }
    }
    msg_index_close(&x);
    free(is_live);
}

Test(msg_index, finds_what_lives_and_nothing_else)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        live(seed);
    }
}
