/* The field tables of the two configurations, for their codec and for the API's requests. */
#ifndef BROKER_CONFIG_FIELDS_H
#define BROKER_CONFIG_FIELDS_H
#include "broker/consumer_config.h"
#include "broker/json_fields.h"

extern const struct field stream_config_fields[];
extern const size_t stream_config_fields_count;
extern const struct field consumer_config_fields[];
extern const size_t consumer_config_fields_count;

#define DUPLICATE_WINDOW_DEFAULT_NS ((int64_t)120 * 1000000000)

/* Put the single filter into the list too, where machines look. */
void consumer_config_unify_filters(struct consumer_config *c);
#endif
