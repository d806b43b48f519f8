/* Stands in for the mesh of peers until it is there: a node alone. */
#include <stddef.h>

#include "cluster/peers.h"

struct peers *peers_new(struct node_context *ctx)
{
    (void)ctx;
    return NULL;
}

void peers_free(struct peers *p)
{
    (void)p;
}

int peers_start(struct peers *p)
{
    (void)p;
    return 0;
}

void peers_stop(struct peers *p)
{
    (void)p;
}

bool peers_is_listening(const struct peers *p)
{
    (void)p;
    return true;
}

void peers_client_urls(struct peers *p, json_t *array)
{
    (void)p;
    (void)array;
}

json_t *peers_routez(struct peers *p, bool has_subs)
{
    (void)p;
    (void)has_subs;
    return json_array();
}

struct peers_stats peers_stats(const struct peers *p)
{
    (void)p;
    return (struct peers_stats){0};
}
