#include "raft/conf.h"

#include <assert.h>
#include <raft.h>
#include <stdio.h>

#include "storage/base/err.h"

#define CONF_FORMAT 1

_Static_assert((int)GROUP_STANDBY == RAFT_STANDBY, "roles are passed on as numbers");
_Static_assert((int)GROUP_VOTER == RAFT_VOTER, "roles are passed on as numbers");
_Static_assert((int)GROUP_SPARE == RAFT_SPARE, "roles are passed on as numbers");

void conf_address(uint64_t node_id, uint64_t raft_id, char ret_address[CONF_ADDRESS_BYTES])
{
    snprintf(ret_address, CONF_ADDRESS_BYTES, "%llu.%llu", (unsigned long long)node_id,
             (unsigned long long)raft_id);
}

void conf_encode(const struct conf *c, struct buf *out)
{
    size_t begin = out->len;
    assert(c->count > 0 && c->count <= HOST_MEMBERS_MAX);
    buf_append_u8(out, CONF_FORMAT);
    buf_append_u64(out, c->count);
    for (unsigned i = 0; i < c->count; i++) {
        char address[CONF_ADDRESS_BYTES];
        conf_address(c->members[i].node_id, c->members[i].raft_id, address);
        buf_append_u64(out, c->members[i].raft_id);
        buf_append(out, address, strlen(address) + 1);
        buf_append_u8(out, (uint8_t)c->members[i].role);
    }
    while ((out->len - begin) % 8 != 0) {
        buf_append_u8(out, 0);
    }
}

/* "node.raft": decimal, no leading zeros, nothing else. */
static bool address_parse(const char *s, size_t len, uint64_t *ret_node, uint64_t *ret_raft)
{
    uint64_t v[2] = {0, 0};
    unsigned part = 0, digits = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.' && part == 0 && digits > 0) {
            part = 1;
            digits = 0;
            continue;
        }
        if (s[i] < '0' || s[i] > '9' || digits == 20) {
            return false;
        }
        uint64_t d = (uint64_t)(s[i] - '0');
        if (v[part] > (UINT64_MAX - d) / 10) {
            return false;
        }
        v[part] = v[part] * 10 + d;
        digits++;
    }
    if (part != 1 || digits == 0) {
        return false;
    }
    *ret_node = v[0];
    *ret_raft = v[1];
    return true;
}

int conf_decode(struct slice bytes, struct conf *ret_conf)
{
    struct reader r = reader_of(bytes);
    struct conf c = {0};

    uint8_t format = reader_u8(&r);
    uint64_t count = reader_u64(&r);
    if (r.failed || format != CONF_FORMAT || count == 0 || count > HOST_MEMBERS_MAX) {
        return ERR_CORRUPT;
    }
    for (; c.count < count; c.count++) {
        struct group_member *m = &c.members[c.count];
        uint64_t address_raft_id = 0;
        m->raft_id = reader_u64(&r);
        const uint8_t *nul = r.len == 0 ? NULL : memchr(r.ptr, 0, r.len);
        if (r.failed || nul == NULL || nul - r.ptr >= CONF_ADDRESS_BYTES) {
            return ERR_CORRUPT;
        }
        struct slice address = reader_bytes(&r, (size_t)(nul - r.ptr));
        reader_u8(&r);
        uint8_t role = reader_u8(&r);
        if (r.failed || role > GROUP_SPARE || m->raft_id == 0 ||
            !address_parse((const char *)address.ptr, address.len, &m->node_id, &address_raft_id) ||
            address_raft_id != m->raft_id || conf_find(&c, m->raft_id) != NULL) {
            return ERR_CORRUPT;
        }
        m->role = (enum group_member_role)role;
    }
    if (r.len >= 8) {
        return ERR_CORRUPT;
    }
    *ret_conf = c;
    return 0;
}

void conf_to_raft(const struct conf *c, struct raft_configuration *ret_configuration)
{
    raft_configuration_init(ret_configuration);
    for (unsigned i = 0; i < c->count; i++) {
        char address[CONF_ADDRESS_BYTES];
        conf_address(c->members[i].node_id, c->members[i].raft_id, address);
        int rv = raft_configuration_add(ret_configuration, c->members[i].raft_id, address,
                                        (int)c->members[i].role);
        assert(rv == 0); /* Ids and addresses are distinct, and memory never fails. */
        (void)rv;
    }
}

const struct group_member *conf_find(const struct conf *c, uint64_t raft_id)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (c->members[i].raft_id == raft_id) {
            return &c->members[i];
        }
    }
    return NULL;
}

unsigned conf_voters(const struct conf *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->count; i++) {
        n += c->members[i].role == GROUP_VOTER;
    }
    return n;
}

bool conf_is_sole_voter(const struct conf *c, uint64_t raft_id)
{
    const struct group_member *m = conf_find(c, raft_id);
    return m != NULL && m->role == GROUP_VOTER && conf_voters(c) == 1;
}
