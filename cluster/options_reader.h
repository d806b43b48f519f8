/* Reading a map of the configuration by a table of its keys; private to the options.
 *
 * A key that stands in no table is unknown; one marked KEY_MISSING is nats-server's and not ours
 * yet. Functions that find a fault append a line for it and leave the option as it was. */
#ifndef CLUSTER_OPTIONS_READER_H
#define CLUSTER_OPTIONS_READER_H
#include <stddef.h>

#include "cluster/options_internal.h"

enum key_kind {
    KEY_STRING,
    KEY_BOOL,
    KEY_PORT,
    KEY_INT,
    KEY_DURATION, /* A text in Go's notation, or seconds, with a warning. */
    KEY_SPECIAL,
    KEY_MISSING,   /* nats-server's; refused unless its value asks for nothing. */
    KEY_NO_EFFECT, /* Of type `min`. Accepted; a note says why it changes nothing. */
    KEY_FINE,      /* Accepted: any boolean asks for what is so anyway. */
};

#define ANY_TYPE (-1)

struct config_reader {
    struct node_options *o;
    struct buf *errors;
    struct buf *warnings;
    const char *section; /* For notes: "cluster." */
    bool has_store_dir;  /* Told once already. */
};

struct key {
    const char *names; /* In lower case, separated by spaces. */
    enum key_kind kind;
    size_t offset;
    int64_t min, max;
    int64_t zero; /* What a 0 stands for. */
    void (*apply)(struct config_reader *r, const struct conf_value *v);
    const char *text; /* KEY_NO_EFFECT: why. */
};

#define AT(field) offsetof(struct node_options, field)
#define STRING(names, field)                                                                       \
    {                                                                                              \
        names, KEY_STRING, AT(field), 0, 0, 0, NULL, NULL                                          \
    }
#define BOOL(names, field)                                                                         \
    {                                                                                              \
        names, KEY_BOOL, AT(field), 0, 0, 0, NULL, NULL                                            \
    }
#define PORT(names, field)                                                                         \
    {                                                                                              \
        names, KEY_PORT, AT(field), -1, OPTIONS_PORT_MAX, 0, NULL, NULL                            \
    }
#define INT(names, field, min, max, zero)                                                          \
    {                                                                                              \
        names, KEY_INT, AT(field), min, max, zero, NULL, NULL                                      \
    }
#define DURATION(names, field, zero)                                                               \
    {                                                                                              \
        names, KEY_DURATION, AT(field), 0, 0, zero, NULL, NULL                                     \
    }
#define SPECIAL(names, function)                                                                   \
    {                                                                                              \
        names, KEY_SPECIAL, 0, 0, 0, 0, function, NULL                                             \
    }
#define MISSING(names)                                                                             \
    {                                                                                              \
        names, KEY_MISSING, 0, 0, 0, 0, NULL, NULL                                                 \
    }
#define NO_EFFECT(names, type, text)                                                               \
    {                                                                                              \
        names, KEY_NO_EFFECT, 0, type, 0, 0, NULL, text                                            \
    }
#define FINE(names)                                                                                \
    {                                                                                              \
        names, KEY_FINE, 0, 0, 0, 0, NULL, NULL                                                    \
    }

void config_fault(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void config_warn(struct config_reader *r, const struct conf_value *v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Leave a note for the node's log: the key has no effect, and why. */
void config_note(struct config_reader *r, const struct conf_value *v, const char *why);

/* These say it when it is not so. */
bool config_is_type(struct config_reader *r, const struct conf_value *v, enum conf_type type);
bool config_is_text(struct config_reader *r, const struct conf_value *v); /* Without NUL bytes. */

void config_read_string(struct config_reader *r, const struct conf_value *v, char **field);
/* A text in Go's notation, into milliseconds; what is shorter counts as one. @what is what the
 * error calls it, NULL for the key. */
bool config_take_duration(struct config_reader *r, const struct conf_value *v, const char *what,
                          int64_t *ret_ms);
/* A port, or host:port, or :port. */
void config_read_listen(struct config_reader *r, const struct conf_value *v, char **host,
                        int *port);
/* The name of a @what, "server" or "cluster". */
void config_read_name(struct config_reader *r, const struct conf_value *v, const char *what,
                      char **field);
void config_read_advertise(struct config_reader *r, const struct conf_value *v, char **field);

/* @section is "cluster." or the like, "" for the top. */
void config_read_map(struct config_reader *r, const struct conf_value *map, const char *section,
                     const struct key *keys, size_t count);
#define READ_MAP(r, map, section, keys)                                                            \
    config_read_map(r, map, section, keys, sizeof keys / sizeof *keys)

/* ---- options_blocks.c ---- */

void config_read_store_dir(struct config_reader *r, const struct conf_value *v);
void config_read_jetstream(struct config_reader *r, const struct conf_value *v);
void config_read_authorization(struct config_reader *r, const struct conf_value *v);
void config_read_cluster(struct config_reader *r, const struct conf_value *v);
#endif
