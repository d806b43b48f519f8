/* The two JSON texts of a connection's beginning: INFO, which we send, and CONNECT, which we get.
 */
#ifndef CLUSTER_CLIENT_INFO_H
#define CLUSTER_CLIENT_INFO_H
#include <stdbool.h>
#include <stdint.h>

#include "storage/base/slice.h"

struct node_context;

struct client_info {
    uint64_t cid;
    const char *ip;
    bool is_connect_info; /* The INFO after the first PONG. */
};
/* The JSON of an INFO, to be freed. */
char *client_info_json(const struct node_context *ctx, const struct client_info *info);

/* What a client said of itself; strings are NULL when it did not. */
struct client_connect {
    bool is_verbose, is_pedantic, is_echo, has_headers, is_no_responders;
    int protocol;
    char *name, *lang, *version;
    char *user, *pass, *token;
    bool is_account; /* The legacy account keys were used: refused. */
};
/* Parse into @c, whose strings are freed first. Returns 0 or ERR_INVALID: not a JSON object with
 * values of the right types. Credentials remain until client_connect_forget. */
int client_connect_parse(struct client_connect *c, struct slice json);
void client_connect_init(
    struct client_connect *c); /* As before CONNECT: verbose, pedantic, echo. */
void client_connect_forget(struct client_connect *c); /* Wipe pass and token. */
void client_connect_close(struct client_connect *c);
#endif
