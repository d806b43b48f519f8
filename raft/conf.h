/* Configurations: who replicates a group, as libraft encodes it in CHANGE entries.
 *
 * Format: u8 1, u64 count, then per server: u64 raft id, address with NUL, u8 role; zeros up to a
 * multiple of 8. libraft leaves that padding uninitialised, we zero it: equal configurations are
 * equal bytes. libraft's own decoder trusts its input; this one does not, and every CHANGE entry
 * from a peer passes through it first.
 *
 * The address is "node_id.raft_id" in decimal: unique per raft id, as rule M6 wants, and it carries
 * the way to the replica, so that no other table of nodes is needed. */
#ifndef RAFT_CONF_H
#define RAFT_CONF_H
#include <stdbool.h>
#include <stdint.h>

#include "raft/host.h"

struct raft_configuration;

#define CONF_ADDRESS_BYTES 44 /* Two u64 in decimal, a dot and a NUL, rounded. */

struct conf {
    unsigned count;
    struct group_member members[HOST_MEMBERS_MAX];
};

void conf_address(uint64_t node_id, uint64_t raft_id, char ret_address[CONF_ADDRESS_BYTES]);
/* Members in the order given. */
void conf_encode(const struct conf *c, struct buf *out);
/* ERR_CORRUPT unless @bytes is a well-formed configuration: bounded count, known roles, no id
 * twice, addresses of our own form that agree with the ids. */
int conf_decode(struct slice bytes, struct conf *ret_conf);
/* As bytes, ready for libraft: initialised and filled, of libraft's heap. */
void conf_to_raft(const struct conf *c, struct raft_configuration *ret_configuration);

const struct group_member *conf_find(const struct conf *c, uint64_t raft_id);
unsigned conf_voters(const struct conf *c);
bool conf_is_sole_voter(const struct conf *c, uint64_t raft_id);
#endif
