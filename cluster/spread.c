#include "cluster/spread.h"

static struct spread_node *find(struct spread_node *nodes, size_t count, uint64_t node_id)
{
    for (size_t i = 0; i < count; i++) {
        if (nodes[i].node_id == node_id) {
            return &nodes[i];
        }
    }
    return NULL;
}

bool spread_is_uneven(size_t leaders_max, size_t leaders_sum, size_t nodes_count)
{
    size_t share = nodes_count == 0 ? 0 : (leaders_sum + nodes_count - 1) / nodes_count;
    return leaders_max > share + share / 8;
}

bool spread_choose(struct spread_node *nodes, size_t nodes_count,
                   const struct spread_stream *streams, size_t streams_count,
                   struct spread_move *ret_move)
{
    size_t sum = 0;
    size_t gain = 1; /* Of the best so far: two fewer at least. */
    uint64_t led_ms = 0;
    for (size_t i = 0; i < nodes_count; i++) {
        nodes[i].leaders = 0;
    }
    for (size_t i = 0; i < streams_count; i++) {
        struct spread_node *n = find(nodes, nodes_count, streams[i].leader);
        if (n != NULL) {
            n->leaders++;
            sum++;
        }
    }
    for (size_t i = 0; i < streams_count; i++) {
        const struct spread_stream *s = &streams[i];
        const struct spread_node *from = find(nodes, nodes_count, s->leader);
        if (!s->is_movable || from == NULL || !spread_is_uneven(from->leaders, sum, nodes_count)) {
            continue;
        }
        for (size_t k = 0; k < s->nodes_count; k++) {
            const struct spread_node *to = find(nodes, nodes_count, s->nodes[k]);
            if (to == NULL || !to->is_fit || to->leaders >= from->leaders) {
                continue;
            }
            size_t more = from->leaders - to->leaders;
            bool is_first = gain == 1;
            bool is_better =
                more > gain ||
                (more == gain && !is_first &&
                 (s->led_ms > led_ms || (s->led_ms == led_ms && (s->gid < ret_move->gid ||
                                                                 (s->gid == ret_move->gid &&
                                                                  to->node_id < ret_move->to)))));
            if (is_better) {
                gain = more;
                led_ms = s->led_ms;
                *ret_move = (struct spread_move){s->gid, s->leader, to->node_id};
            }
        }
    }
    return gain > 1;
}
