/* What the files of options share. */
#ifndef CLUSTER_OPTIONS_INTERNAL_H
#define CLUSTER_OPTIONS_INTERNAL_H
#include "cluster/options.h"

#define OPTIONS_PORT_MAX 65535
#define OPTIONS_PAYLOAD_MAX (64 << 20) /* The largest message of core NATS; streams take less. */
#define OPTIONS_NAME_BYTES_MAX 255
#define OPTIONS_USERS_MAX 10000
#define OPTIONS_ROUTES_MAX 256
#define OPTIONS_DURATION_MAX_MS (INT64_C(366) * 24 * 3600 * 1000)

enum {
    DEFAULT_PORT = 4222,
    DEFAULT_MAX_PAYLOAD = 1 << 20,
    DEFAULT_MAX_PENDING = 64 << 20,
    DEFAULT_MAX_CONNECTIONS = 65536,
    DEFAULT_MAX_CONTROL_LINE = 4096,
    DEFAULT_MAX_CLOSED_CLIENTS = 10000,
    DEFAULT_PING_INTERVAL_MS = 120000,
    DEFAULT_PING_MAX = 2,
    DEFAULT_WRITE_DEADLINE_MS = 10000,
    DEFAULT_LAME_DUCK_DURATION_MS = 120000,
    DEFAULT_LAME_DUCK_GRACE_MS = 10000,
    DEFAULT_AUTH_TIMEOUT_MS = 2000,
    LAME_DUCK_DURATION_MIN_MS = 30000,
};

/* ---- options_values.c: texts to values ---- */

/* Replace a string that the options own; NULL clears it. */
void options_set_string(char **field, struct slice value);
void options_clear(struct node_options *o); /* Free what @o owns. */

/* Go's duration, as 1h30m or 1.5s, in nanoseconds. On ERR_INVALID a sentence is in @error. */
int options_parse_duration(struct slice text, int64_t *ret_ns, struct buf *error);
/* The same way back: "2m0s", "300ms". */
void options_print_duration(struct buf *out, int64_t ms);
/* A whole number in Go's notation for flags (0x, 0o, 0b, leading 0 octal). Returns 0, ERR_INVALID,
 * or ERR_TOOBIG. */
int options_parse_int(const char *text, int64_t *ret_value);
int options_parse_bool(const char *text, bool *ret_value);

/* `host:port`, `:port`, `[v6]:port`; the port may be -1. On ERR_INVALID a sentence is in @error. */
int options_parse_address(struct slice text, struct slice *ret_host, int *ret_port,
                          struct buf *error);
/* Whether @text is host or host:port as one advertises it; else ERR_INVALID and a sentence. */
int options_check_advertise(struct slice text, struct buf *error);
/* Check a route's URL, scheme://[user:password@]host:port. */
int options_check_route(struct slice url, struct buf *error);
void options_add_route(struct node_options *o, struct slice url);
/* The listen URL of `--cluster`: [scheme://][user:password@]host:port; empty for none. */
int options_set_cluster_listen(struct node_options *o, struct slice url, struct buf *error);
/* Remember what the node logs at its start. */
void options_add_note(struct node_options *o, struct slice text);

/* ---- options_keys.c: the configuration's tree ---- */

/* Put what @root says into @o. Faults are appended to @errors and what looks like one to
 * @warnings, a line each. */
void options_read_config(struct node_options *o, const struct conf_value *root, struct buf *errors,
                         struct buf *warnings);

/* ---- options_flags.c: the command line ---- */

struct options_setting {
    const struct options_flag *flag;
    const char *value;
};

struct options_flags {
    struct options_setting *settings;
    uint32_t count;
    bool is_help, is_help_tls, is_version, is_test;
    const char *config_path; /* NULL: none. */
    const char *signal;
};

/* Cut @argv up and check each value. Returns 0 or ERR_INVALID and the text for stderr. */
int options_flags_parse(int argc, char **argv, struct options_flags *ret_flags, struct buf *error);
void options_flags_close(struct options_flags *f);
/* Put the values into @o. They were checked, so nothing can be wrong. */
void options_flags_apply(const struct options_flags *f, struct node_options *o);
#endif
