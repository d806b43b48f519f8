/* What a request says of servers: where a stream's replicas may live, or who may lead.
 *
 * Of a stream: in this cluster, on servers that have all the tags, and none of those with a !
 * before them. Of a step-down: the server by its name, else one of these. */
#ifndef BROKER_PLACEMENT_H
#define BROKER_PLACEMENT_H
#include "broker/json_fields.h"

struct placement {
    char *cluster;
    char **tags; /* As they were given. */
    size_t tags_count;
    char *preferred; /* Step-down only: a stream is not to have it. */
};

#define PLACEMENT_FIELDS 3
extern const struct field placement_fields[PLACEMENT_FIELDS];

bool placement_is_empty(const struct placement *p);
void placement_close(struct placement *p);
bool placement_eq(const struct placement *a, const struct placement *b);
#endif
