#include "cluster/client_info.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/crypto.h>

#include "cluster/auth.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "cluster/peers.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"

char *client_info_json(const struct node_context *ctx, const struct client_info *info)
{
    const struct node_options *o = ctx->options;
    json_t *j = json_object();
    json_object_set_new(j, "server_id", json_string(ctx->server_id));
    json_object_set_new(j, "server_name", json_string(ctx->server_name));
    json_object_set_new(j, "version", json_string(NODE_VERSION));
    json_object_set_new(j, "proto", json_integer(NODE_PROTO));
    json_object_set_new(j, "go", json_string("go1.24.0"));
    json_object_set_new(j, "host", json_string(o->host));
    json_object_set_new(j, "port", json_integer(ctx->client_port));
    json_object_set_new(j, "headers", json_true());
    if (auth_is_required(o)) {
        json_object_set_new(j, "auth_required", json_true());
    }
    json_object_set_new(j, "max_payload", json_integer(o->max_payload));
    if (o->has_jetstream) {
        json_object_set_new(j, "jetstream", json_true());
    }
    json_object_set_new(j, "client_id", json_integer((json_int_t)info->cid));
    json_object_set_new(j, "client_ip", json_string(info->ip));
    if (ctx->cluster_name[0] != '\0') {
        json_object_set_new(j, "cluster", json_string(ctx->cluster_name));
    }
    if (ctx->peers != NULL && !o->no_advertise) {
        json_t *urls = json_array();
        peers_client_urls(ctx->peers, urls);
        if (json_array_size(urls) > 0) {
            json_object_set_new(j, "connect_urls", urls);
        } else {
            json_decref(urls);
        }
    }
    if (ctx->is_lame_duck) {
        json_object_set_new(j, "ldm", json_true());
    }
    if (info->is_connect_info) {
        json_object_set_new(j, "connect_info", json_true());
        json_object_set_new(j, "remote_account", json_string("$G"));
    }
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    return text;
}

void client_connect_init(struct client_connect *c)
{
    *c = (struct client_connect){.is_verbose = true, .is_pedantic = true, .is_echo = true};
}

static void wipe(char **s)
{
    if (*s != NULL) {
        OPENSSL_cleanse(*s, strlen(*s));
        free(*s);
        *s = NULL;
    }
}

void client_connect_forget(struct client_connect *c)
{
    wipe(&c->pass);
    wipe(&c->token);
}

void client_connect_close(struct client_connect *c)
{
    client_connect_forget(c);
    free(c->name);
    free(c->lang);
    free(c->version);
    free(c->user);
    c->name = c->lang = c->version = c->user = NULL;
}

static int get_bool(const json_t *j, const char *key, bool *ret_value)
{
    const json_t *v = json_object_get(j, key);
    if (v == NULL || json_is_null(v)) {
        return 0;
    }
    if (!json_is_boolean(v)) {
        return ERR_INVALID;
    }
    *ret_value = json_is_true(v);
    return 0;
}

static int get_string(const json_t *j, const char *key, char **ret_value)
{
    const json_t *v = json_object_get(j, key);
    if (v == NULL || json_is_null(v)) {
        return 0;
    }
    if (!json_is_string(v)) {
        return ERR_INVALID;
    }
    free(*ret_value);
    *ret_value = xstrndup(json_string_value(v), json_string_length(v));
    return 0;
}

int client_connect_parse(struct client_connect *c, struct slice json)
{
    json_t *j = json_loadb((const char *)json.ptr, json.len, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(j)) {
        json_decref(j);
        return ERR_INVALID;
    }
    client_connect_close(c);
    int rv = 0;
    rv |= get_bool(j, "verbose", &c->is_verbose);
    rv |= get_bool(j, "pedantic", &c->is_pedantic);
    rv |= get_bool(j, "echo", &c->is_echo);
    rv |= get_bool(j, "headers", &c->has_headers);
    rv |= get_bool(j, "no_responders", &c->is_no_responders);
    rv |= get_string(j, "name", &c->name);
    rv |= get_string(j, "lang", &c->lang);
    rv |= get_string(j, "version", &c->version);
    rv |= get_string(j, "user", &c->user);
    rv |= get_string(j, "pass", &c->pass);
    rv |= get_string(j, "auth_token", &c->token);
    const json_t *protocol = json_object_get(j, "protocol");
    if (json_is_integer(protocol)) {
        json_int_t value = json_integer_value(protocol);
        c->protocol = value == 0 || value == 1 ? (int)value : -1;
    } else if (protocol != NULL && !json_is_null(protocol)) {
        rv = ERR_INVALID;
    }
    const json_t *account = json_object_get(j, "account");
    c->is_account = (json_is_string(account) && json_string_length(account) > 0) ||
                    json_is_true(json_object_get(j, "new_account"));
    json_decref(j);
    return rv == 0 ? 0 : ERR_INVALID;
}
