/* Who a node is, across restarts: `<store_dir>/weir/identity`, and `identity.copy` the same.
 *
 *   0  8  magic "WEIRID01"
 *   8 16  node uuid, random, never all zero in its first 8 bytes
 *  24  8  boot count, little-endian: how often this identity was started
 *  32 16  cluster uuid, zero before birth
 *  48  4  CRC-32C of the bytes before
 *
 * Each is replaced as a whole (storage/small_file.h); one of them will do. */
#ifndef CLUSTER_IDENTITY_H
#define CLUSTER_IDENTITY_H
#include <stddef.h>
#include <stdint.h>

#include "storage/file_ops.h"

#define IDENTITY_BYTES 52

struct identity {
    uint8_t uuid[16];
    uint8_t cluster_uuid[16];
    uint64_t boot_count;
};

/* Make or load the identity of @store_dir, count this boot and sync it. A directory with the data
 * of a nats-server and none of weir is refused, and so is one with data of weir and no identity;
 * nothing in them is touched. Returns 0; ERR_EXISTS, ERR_IO, ERR_NOSPACE or ERR_CORRUPT with a
 * sentence in @error. */
int identity_open(const struct file_ops *ops, const char *store_dir, struct identity *ret_id,
                  char *error, size_t error_size);
/* What is there, unchanged. ERR_NOTFOUND, ERR_IO or ERR_CORRUPT. */
int identity_look(const struct file_ops *ops, const char *store_dir, struct identity *ret_id);
/* Keep every other process off @store_dir until this one ends. ERR_NOTFOUND: there is no store yet;
 * ERR_EXISTS: another process has it; ERR_IO. */
int identity_lock(const char *store_dir);
/* One that lives in memory: a node without JetStream. */
void identity_random(struct identity *ret_id);
uint64_t identity_node_id(const struct identity *id);
#endif
