#include "broker/placement.h"

#include <stddef.h>

#define AT(member) .offset = offsetof(struct placement, member)
#define OE .flags = FIELD_OMIT_EMPTY

const struct field placement_fields[PLACEMENT_FIELDS] = {
    {.name = "cluster", .kind = FIELD_STRING, OE, AT(cluster)},
    {.name = "tags",
     .kind = FIELD_STRINGS,
     OE,
     AT(tags),
     .count_offset = offsetof(struct placement, tags_count)},
    {.name = "preferred", .kind = FIELD_STRING, OE, AT(preferred)},
};

bool placement_is_empty(const struct placement *p)
{
    return fields_are_empty(placement_fields, PLACEMENT_FIELDS, p);
}

void placement_close(struct placement *p)
{
    fields_close(placement_fields, PLACEMENT_FIELDS, p);
}

bool placement_eq(const struct placement *a, const struct placement *b)
{
    return fields_eq(placement_fields, PLACEMENT_FIELDS, a, b);
}
