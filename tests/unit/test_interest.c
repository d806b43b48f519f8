#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "broker/interest.h"
#include "broker/protocol.h"
#include "broker/subject.h"
#include "storage/base/err.h"

#define S(text) slice_str(text)

static struct interest *make(uint32_t cache_max)
{
    struct interest_options options = {.seed = 42, .cache_max = cache_max};
    return interest_new(&options);
}

static uint32_t plain_of(const struct interest_result *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->plain_count; i++) {
        n += r->plain[i]->subs_count;
    }
    return n;
}

static uint32_t total(const struct interest_result *r)
{
    uint32_t n = plain_of(r);
    for (uint32_t i = 0; i < r->queues_count; i++) {
        n += r->queues[i]->subs_count;
    }
    return n;
}

static uint32_t groups_of(const struct interest_result *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->queues_count; i += interest_group_len(r, i)) {
        n++;
    }
    return n;
}

Test(interest, refuses_bad_patterns_and_too_many)
{
    struct interest_options options = {.subs_max = 1};
    struct interest *in = interest_new(&options);
    struct interest_sub a = {.kind = INTEREST_LOCAL};
    struct interest_sub b = a;
    cr_expect_eq(interest_insert(in, &a, S("a..b"), SLICE_EMPTY), ERR_INVALID);
    cr_expect_eq(interest_insert(in, &a, S("a.>.b"), SLICE_EMPTY), ERR_INVALID);
    char deep[2 * INTEREST_TOKENS_MAX + 2];
    for (size_t i = 0; i < sizeof deep; i++) {
        deep[i] = i % 2 == 0 ? 'a' : '.';
    }
    cr_expect_eq(interest_insert(in, &a, slice_of(deep, sizeof deep - 1), SLICE_EMPTY), ERR_TOOBIG);
    cr_expect_eq(interest_insert(in, &a, slice_of(deep, sizeof deep - 3), SLICE_EMPTY), 0);
    cr_expect_eq(interest_insert(in, &b, S("b"), SLICE_EMPTY), ERR_FULL);
    cr_expect(interest_is_any(in, slice_of(deep, sizeof deep - 3)));
    cr_expect_not(interest_is_any(in, slice_of(deep, sizeof deep - 1)));
    cr_expect_not(interest_is_any(in, SLICE_EMPTY));
    interest_check(in);
    interest_remove(in, &a);
    interest_remove(in, &a);
    cr_expect_eq(interest_sets_count(in), 0);
    interest_free(in);
}

Test(interest, one_queue_name_is_one_group_even_from_two_patterns)
{
    struct interest *in = make(64);
    struct interest_sub a = {.kind = INTEREST_LOCAL};
    struct interest_sub b = a;
    struct interest_sub c = a;
    cr_assert_eq(interest_insert(in, &a, S("foo.*"), S("q")), 0);
    cr_assert_eq(interest_insert(in, &b, S("foo.>"), S("r")), 0);
    cr_assert_eq(interest_insert(in, &c, S("foo.bar"), S("q")), 0);
    const struct interest_result *r = interest_match(in, S("foo.bar"));
    cr_assert_eq(r->plain_count, 0);
    cr_assert_eq(groups_of(r), 2);
    bool has_a = false;
    bool has_c = false;
    uint32_t len = 0;
    for (uint32_t i = 0; i < r->queues_count; i += len) {
        len = interest_group_len(r, i);
        for (uint64_t random = 0; random < 10; random++) {
            const struct interest_sub *picked = interest_pick(r->queues + i, len, random, false);
            has_a = has_a || picked == &a;
            has_c = has_c || picked == &c;
            cr_assert_eq(picked == &b, len == 1);
        }
    }
    cr_expect(has_a && has_c, "either is picked");
    interest_free(in);
}

Test(interest, a_group_prefers_local_members_and_weighs_remote_ones)
{
    struct interest *in = make(64);
    struct interest_sub far_a = {.kind = INTEREST_REMOTE, .weight = 1};
    struct interest_sub far_b = {.kind = INTEREST_REMOTE, .weight = 3};
    struct interest_sub near = {.kind = INTEREST_LOCAL};
    interest_insert(in, &far_a, S("x"), S("q"));
    interest_insert(in, &far_b, S("x"), S("q"));
    const struct interest_result *r = interest_match(in, S("x"));
    int counts[2] = {0, 0};
    for (uint64_t random = 0; random < 400; random++) {
        counts[interest_pick(r->queues, 1, random, false) == &far_b]++;
    }
    cr_expect_eq(counts[0], 100);
    cr_expect_eq(counts[1], 300);
    cr_expect_null(interest_pick(r->queues, 1, 0, true));
    interest_insert(in, &near, S("x"), S("q"));
    interest_check(in);
    r = interest_match(in, S("x"));
    for (uint64_t random = 0; random < 20; random++) {
        cr_expect_eq(interest_pick(r->queues, 1, random, false), &near);
    }
    interest_free(in);
}

struct told {
    char text[400];
};

static void tell(void *ctx, struct slice subject, struct slice queue, uint32_t local_count)
{
    struct told *t = ctx;
    size_t len = strlen(t->text);
    snprintf(t->text + len, sizeof t->text - len, "%.*s/%.*s=%u ", SLICE_ARG(subject),
             SLICE_ARG(queue), local_count);
}

Test(interest, peers_are_told_of_the_first_and_the_last_and_of_each_change_of_a_group)
{
    struct told told = {""};
    struct interest_options options = {.local_cb = tell, .ctx = &told};
    struct interest *in = interest_new(&options);
    struct interest_sub subs[5];
    memset(subs, 0, sizeof subs);
    struct interest_sub far = {.kind = INTEREST_REMOTE, .weight = 1};
    interest_insert(in, &far, S("a.*"), SLICE_EMPTY);
    interest_insert(in, &subs[0], S("a.*"), SLICE_EMPTY);
    interest_insert(in, &subs[1], S("a.*"), SLICE_EMPTY);
    interest_insert(in, &subs[2], S("b"), S("q"));
    interest_insert(in, &subs[3], S("b"), S("q"));
    struct told all = {""};
    interest_each_local(in, tell, &all);
    cr_expect_str_eq(all.text, "a.*/=2 b/q=2 ");
    for (int i = 0; i < 4; i++) {
        interest_remove(in, &subs[i]);
        interest_check(in);
    }
    interest_remove(in, &far);
    cr_expect_str_eq(told.text, "a.*/=1 b/q=1 b/q=2 a.*/=0 b/q=1 b/q=0 ");
    interest_free(in);
}

Test(interest, the_cache_forgets_what_changed_and_nothing_else)
{
    struct interest *in = make(1024);
    struct interest_sub a = {.kind = INTEREST_LOCAL};
    struct interest_sub b = a;
    struct interest_sub c = a;
    struct interest_sub d = a;
    interest_insert(in, &a, S("x"), SLICE_EMPTY);
    for (int i = 0; i < 2; i++) { /* Asked for once, a subject is not remembered. */
        cr_expect_eq(total(interest_match(in, S("x"))), 1);
        cr_expect_eq(total(interest_match(in, S("y"))), 0);
    }
    uint64_t misses = interest_cache_misses(in);
    interest_insert(in, &b, S("x"), SLICE_EMPTY);
    cr_expect_eq(total(interest_match(in, S("x"))), 2, "joined a set: still cached, and right");
    interest_insert(in, &c, S("y"), SLICE_EMPTY);
    cr_expect_eq(total(interest_match(in, S("x"))), 2);
    cr_expect_eq(interest_cache_misses(in), misses);
    cr_expect_eq(total(interest_match(in, S("y"))), 1);
    cr_expect_eq(interest_cache_misses(in), misses + 1);
    interest_insert(in, &d, S("*"), SLICE_EMPTY);
    cr_expect_eq(total(interest_match(in, S("x"))), 3);
    interest_remove(in, &d);
    cr_expect_eq(total(interest_match(in, S("x"))), 2);
    interest_remove(in, &a);
    interest_remove(in, &b);
    cr_expect_eq(total(interest_match(in, S("x"))), 0);
    cr_expect_eq(total(interest_match(in, S("y"))), 1);
    interest_free(in);
}

Test(interest, a_subject_that_begins_like_no_pattern_is_nobodys)
{
    for (uint32_t cache = 0; cache <= 16; cache += 16) {
        struct interest *in = make(cache);
        struct interest_sub api = {.kind = INTEREST_LOCAL};
        struct interest_sub star = api;
        struct interest_sub tail = api;
        struct interest_sub odd = api;
        cr_expect_eq(total(interest_match(in, S("a"))), 0);
        interest_insert(in, &api, S("$JS.API.>"), SLICE_EMPTY);
        cr_expect_eq(total(interest_match(in, S("$JS.API.INFO"))), 1);
        cr_expect_eq(total(interest_match(in, S("a"))), 0, "nor is the last result left");
        cr_expect_eq(total(interest_match(in, SLICE_EMPTY)), 0);
        interest_insert(in, &odd, S("*a"), SLICE_EMPTY); /* No wildcard. */
        cr_expect_eq(total(interest_match(in, S("*a"))), 1);
        cr_expect_eq(total(interest_match(in, S("a"))), 0);
        interest_insert(in, &star, S("*"), SLICE_EMPTY);
        cr_expect_eq(total(interest_match(in, S("a"))), 1);
        interest_insert(in, &tail, S(">"), SLICE_EMPTY);
        cr_expect_eq(total(interest_match(in, S("a"))), 2);
        cr_expect_eq(total(interest_match(in, S("a.b"))), 1);
        interest_remove(in, &star);
        interest_remove(in, &tail);
        interest_remove(in, &api);
        cr_expect_eq(total(interest_match(in, S("$JS.API.INFO"))), 0);
        cr_expect_eq(total(interest_match(in, S("a"))), 0);
        interest_check(in);
        interest_free(in);
    }
}

/* As replies to requests are: each would push out a subject that is published to all the time. */
Test(interest, subjects_asked_for_once_do_not_push_out_others)
{
    struct interest *in = make(64);
    struct interest_sub a = {.kind = INTEREST_LOCAL};
    interest_insert(in, &a, S("often"), SLICE_EMPTY);
    cr_expect_eq(total(interest_match(in, S("often"))), 1);
    cr_expect_eq(total(interest_match(in, S("often"))), 1);
    for (unsigned i = 0; i < 10000; i++) {
        char once[32];
        int len = snprintf(once, sizeof once, "once.%u", i); /* It begins like the other. */
        cr_expect_eq(total(interest_match(in, slice_of(once, (size_t)len))), 0);
    }
    uint64_t hits = interest_cache_hits(in);
    cr_expect_eq(total(interest_match(in, S("often"))), 1);
    cr_expect_eq(interest_cache_hits(in), hits + 1);
    interest_free(in);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

Test(interest, what_the_last_token_does_not_change_is_found_once)
{
    struct interest_options options = {.seed = 1, .cache_max = 16};
    struct interest *in = interest_new(&options);
    struct interest_sub inbox = {.owner = NULL};
    struct interest_sub one = {.owner = NULL};
    cr_assert_eq(interest_insert(in, &inbox, S("_INBOX.abc.*"), SLICE_EMPTY), 0);
    for (int i = 0; i < 1000; i++) {
        char text[32];
        int len = snprintf(text, sizeof text, "_INBOX.abc.%d", i);
        cr_expect_eq(total(interest_match(in, slice_of(text, (size_t)len))), 1);
    }
    cr_expect_eq(interest_cache_misses(in), 2);
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc."))), 0, "no subject");
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc"))), 0);
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc.1.2"))), 0);

    cr_assert_eq(interest_insert(in, &one, S("_INBOX.abc.7"), SLICE_EMPTY), 0);
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc.6"))), 1);
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc.7"))), 2);
    interest_remove(in, &inbox);
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc.6"))), 0);
    cr_expect_eq(total(interest_match(in, S("_INBOX.abc.7"))), 1);
    interest_remove(in, &one);
    interest_free(in);
}

/* Random inserts, removals and matches against comparing each subscription with the subject. */
Test(interest, agrees_with_a_plain_list_over_random_changes)
{
    enum { SUBS = 200, STEPS = 30000 };
    static struct interest_sub subs[SUBS];
    static char texts[SUBS][16];
    static char queues[SUBS][4];
    for (uint32_t cache = 0; cache <= 16; cache += 8) {
        struct interest *in = make(cache);
        memset(subs, 0, sizeof subs);
        uint64_t rng = 88172645463325252u;
        for (int step = 0; step < STEPS; step++) {
            uint64_t r = random_next(&rng);
            size_t i = r % SUBS;
            if ((r >> 20) % 3 == 0 && interest_is_in(&subs[i])) {
                interest_remove(in, &subs[i]);
            } else if ((r >> 20) % 3 == 1 && !interest_is_in(&subs[i])) {
                char *t = texts[i];
                size_t len = 1 + (r >> 30) % 3;
                for (size_t k = 0; k < len; k++) {
                    const char *tokens = k + 1 == len ? "ab*>" : "ab*a";
                    t += sprintf(t, "%s%c", k == 0 ? "" : ".", tokens[(r >> (32 + 2 * k)) % 4]);
                }
                sprintf(queues[i], "%s", (r >> 40) % 2 == 0 ? "" : (r >> 41) % 2 == 0 ? "q" : "r");
                subs[i].kind = (r >> 45) % 2;
                subs[i].weight = 1;
                cr_assert_eq(interest_insert(in, &subs[i], S(texts[i]), S(queues[i])), 0);
            }
            char subject[16];
            size_t len = 1 + (r >> 50) % 3;
            char *at = subject;
            for (size_t k = 0; k < len; k++) {
                at += sprintf(at, "%s%c", k == 0 ? "" : ".", "abc*"[(r >> (52 + 2 * k)) % 4]);
            }
            uint32_t plain = 0;
            uint32_t all = 0;
            bool has_q = false;
            bool has_r = false;
            for (size_t k = 0; k < SUBS; k++) {
                if (interest_is_in(&subs[k]) && subject_match(S(subject), S(texts[k]))) {
                    all++;
                    plain += queues[k][0] == '\0';
                    has_q = has_q || queues[k][0] == 'q';
                    has_r = has_r || queues[k][0] == 'r';
                }
            }
            const struct interest_result *found = interest_match(in, S(subject));
            cr_assert_eq(total(found), all, "step %d %s", step, subject);
            cr_assert_eq(plain_of(found), plain);
            cr_assert_eq(groups_of(found), (uint32_t)has_q + has_r, "step %d %s", step, subject);
            if (step % 1000 == 0) {
                interest_check(in);
            }
        }
        for (size_t i = 0; i < SUBS; i++) {
            interest_remove(in, &subs[i]);
        }
        interest_check(in);
        cr_expect_eq(interest_subs_count(in), 0);
        interest_free(in);
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* No limit on time is asserted: machines and sanitizers differ. The figures are printed. */
Test(interest, holds_many_subscriptions_and_a_cached_match_is_quick)
{
    enum { SUBS = 100000, ROUNDS = 300000 };
    struct interest *in = make(INTEREST_CACHE_MAX_DEFAULT);
    struct interest_sub *subs = calloc(SUBS, sizeof *subs);
    double begin = seconds();
    for (int i = 0; i < SUBS; i++) {
        char text[64];
        snprintf(text, sizeof text, "_INBOX.%d.*", i);
        cr_assert_eq(interest_insert(in, &subs[i], S(text), SLICE_EMPTY), 0);
    }
    double inserted = seconds();
    struct interest_sub orders = {.kind = INTEREST_LOCAL};
    interest_insert(in, &orders, S("orders.*.new"), SLICE_EMPTY);
    struct buf b = BUF_EMPTY;
    buf_append_str(&b, "PUB orders.eu.new 128\r\n");
    memset(buf_reserve(&b, 128), 'x', 128);
    b.len += 128;
    buf_append_str(&b, "\r\n");
    struct protocol p;
    protocol_init(&p, 4096, 1024 * 1024);
    double parse = seconds();
    for (int i = 0; i < ROUNDS; i++) {
        struct protocol_event ev;
        cr_assert(protocol_next(&p, buf_slice(&b), &ev) == PROTOCOL_PUB);
        const struct interest_result *r = interest_match(in, ev.subject);
        if (r->plain_count != 1) {
            cr_assert_fail("no match");
        }
    }
    double end = seconds();
    printf("insert %.0f ns, parse and cached match %.0f ns\n", (inserted - begin) / SUBS * 1e9,
           (end - parse) / ROUNDS * 1e9);
    for (int i = 0; i < SUBS; i++) {
        interest_remove(in, &subs[i]);
    }
    interest_remove(in, &orders);
    cr_expect_eq(interest_sets_count(in), 0);
    interest_check(in);
    interest_free(in);
    free(subs);
    buf_close(&b);
}
