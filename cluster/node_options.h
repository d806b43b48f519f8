/* What the node is told by flags and configuration, after defaults. */
#ifndef CLUSTER_NODE_OPTIONS_H
#define CLUSTER_NODE_OPTIONS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/tags.h"

struct node_user {
    char *user;
    char *pass; /* Clear or bcrypt. */
};

struct node_options {
    const char *program; /* Base name of argv[0]. */
    char *config_path;   /* NULL: none. */

    char *host;
    int port; /* -1: any free one. */
    char *server_name;
    struct tag_list tags; /* server_tags */
    char *client_advertise;
    char *http_host;
    int http_port; /* 0: none. */

    int64_t max_payload;
    int64_t max_pending;
    int64_t max_connections; /* -1: none at all. */
    int64_t max_subscriptions;
    int64_t max_subscription_tokens;
    int64_t max_control_line;
    int64_t max_closed_clients;
    int64_t ping_interval_ms;
    int64_t ping_max;
    int64_t write_deadline_ms;
    int64_t lame_duck_duration_ms;
    int64_t lame_duck_grace_ms;
    bool no_fast_producer_stall;

    char *user; /* Single user, or NULL. */
    char *pass;
    char *token;
    int64_t auth_timeout_ms;
    struct node_user *users;
    uint32_t users_count;

    bool has_cluster;
    char *cluster_name;
    char *cluster_host;
    int cluster_port;
    char *cluster_advertise;
    bool no_advertise;
    char *cluster_user;
    char *cluster_pass;
    int64_t cluster_auth_timeout_ms;
    char **routes; /* URLs, userinfo included. */
    uint32_t routes_count;

    bool has_jetstream;
    char *store_dir;
    char *unique_tag;         /* Prefix of tags, in lower case; NULL: none. */
    int64_t max_memory_bytes; /* Of streams with this storage, on this node; -1: no limit. */
    int64_t max_file_bytes;
    int64_t disk_reserve_bytes;  /* -1: a share of the disk. */
    int64_t catchup_bytes_per_s; /* 0: no limit. */
    int64_t scrub_bytes_per_s;   /* 0: blocks are checked when they are read only. */
    int64_t scrub_interval_ms;   /* From the begin of one pass to that of the next, at least. */

    char *pid_file;
    char *ports_file_dir;

    char *log_file;
    bool is_debug, is_trace, has_logtime, is_logtime_utc;

    char **notes; /* Settings that have no effect here: the node logs them once. */
    uint32_t notes_count;

    /* Read the configuration again and take over what may change while running (authorization).
     * Returns 0, or ERR_* and what is wrong in @error. NULL: not supported. */
    int (*reload)(struct node_options *o, char *error, size_t error_size);
};
#endif
