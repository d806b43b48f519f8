#include <criterion/criterion.h>
#include <stdlib.h>

#include "cluster/spread.h"

#define NODES 5
#define STREAMS 300

static uint64_t random_state = 42;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

/* Streams on all of @nodes_count nodes, of which node i + 1 leads @leads[i]. */
static size_t make(struct spread_node *nodes, size_t nodes_count, struct spread_stream *streams,
                   const size_t *leads)
{
    size_t count = 0;
    for (size_t i = 0; i < nodes_count; i++) {
        nodes[i] = (struct spread_node){.node_id = i + 1, .is_fit = true};
        for (size_t k = 0; k < leads[i]; k++) {
            streams[count] = (struct spread_stream){
                .gid = 100 + count, .leader = i + 1, .led_ms = 1000, .is_movable = true};
            for (size_t n = 0; n < nodes_count; n++) {
                streams[count].nodes[streams[count].nodes_count++] = n + 1;
            }
            count++;
        }
    }
    return count;
}

static struct spread_node nodes[NODES];
static struct spread_stream streams[STREAMS];

/* Carry out what is chosen until nothing is; how many moves. */
static size_t settle(size_t nodes_count, size_t count)
{
    struct spread_move move;
    size_t moves = 0;
    while (spread_choose(nodes, nodes_count, streams, count, &move)) {
        struct spread_stream *s = &streams[0];
        while (s->gid != move.gid) {
            s++;
        }
        cr_assert_eq(s->leader, move.from);
        cr_assert(s->is_movable);
        s->leader = move.to;
        s->led_ms = 0;
        cr_assert_leq(++moves, count, "it does not end");
    }
    return moves;
}

Test(spread, a_node_that_returns_gets_its_share)
{
    size_t count = make(nodes, 3, streams, (size_t[]){3, 3, 0});
    cr_assert_eq(settle(3, count), 2);
    cr_expect_eq(nodes[0].leaders, 2);
    cr_expect_eq(nodes[1].leaders, 2);
    cr_expect_eq(nodes[2].leaders, 2);
    count = make(nodes, 3, streams, (size_t[]){150, 150, 0});
    size_t moves = settle(3, count);
    /* The share is 100, and an eighth more is left alone. */
    cr_expect_eq(moves, 76);
    cr_expect_eq(nodes[0].leaders, 112);
    cr_expect_eq(nodes[1].leaders, 112);
}

Test(spread, what_is_nearly_even_is_left_alone)
{
    struct spread_move move;
    size_t count = make(nodes, 3, streams, (size_t[]){2, 1, 1});
    cr_expect_not(spread_choose(nodes, 3, streams, count, &move));
    count = make(nodes, 3, streams, (size_t[]){1, 0, 0});
    cr_expect_not(spread_choose(nodes, 3, streams, count, &move));
    count = make(nodes, 3, streams, (size_t[]){108, 100, 92});
    cr_expect_not(spread_choose(nodes, 3, streams, count, &move));
    count = make(nodes, 1, streams, (size_t[]){9});
    cr_expect_not(spread_choose(nodes, 1, streams, count, &move));
    cr_expect_not(spread_choose(nodes, 0, streams, 0, &move));
}

Test(spread, who_gives_what_to_whom)
{
    struct spread_move move;
    size_t count = make(nodes, 4, streams, (size_t[]){4, 6, 2, 0});
    streams[7].led_ms = 5000; /* Of node 2, led longest. */
    cr_assert(spread_choose(nodes, 4, streams, count, &move));
    cr_expect_eq(move.from, 2);
    cr_expect_eq(move.to, 4);
    cr_expect_eq(move.gid, streams[7].gid);
    streams[7].is_movable = false;
    cr_assert(spread_choose(nodes, 4, streams, count, &move));
    cr_expect_eq(move.gid, streams[4].gid);
    nodes[3].is_fit = false; /* Leaving, or slow. */
    cr_assert(spread_choose(nodes, 4, streams, count, &move));
    cr_expect_eq(move.from, 2);
    cr_expect_eq(move.to, 3);
    for (size_t i = 4; i < 10; i++) { /* Node 2's streams have no replica there. */
        streams[i].nodes_count = 2;
    }
    cr_assert(spread_choose(nodes, 4, streams, count, &move));
    cr_expect_eq(move.from, 1, "%lu", move.from);
    cr_expect_eq(move.to, 3);
}

Test(spread, it_ends_and_is_even_whatever_the_beginning)
{
    for (unsigned round = 0; round < 300; round++) {
        size_t leads[NODES];
        size_t nodes_count = 2 + random_below(NODES - 1);
        for (size_t i = 0; i < nodes_count; i++) {
            leads[i] = random_below(3) == 0 ? 0 : random_below(STREAMS / NODES);
        }
        size_t count = make(nodes, nodes_count, streams, leads);
        for (size_t i = 0; i < count; i++) {
            streams[i].led_ms = random_below(1000);
        }
        settle(nodes_count, count);
        size_t max = 0;
        size_t min = SIZE_MAX;
        for (size_t i = 0; i < nodes_count; i++) {
            max = nodes[i].leaders > max ? nodes[i].leaders : max;
            min = nodes[i].leaders < min ? nodes[i].leaders : min;
        }
        cr_assert(max - min <= 1 || !spread_is_uneven(max, count, nodes_count));
    }
}
