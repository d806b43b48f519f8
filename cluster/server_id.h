/* Identifiers in the form that NATS tools expect. */
#ifndef CLUSTER_SERVER_ID_H
#define CLUSTER_SERVER_ID_H
#include <stdint.h>

#define SERVER_ID_BYTES 56 /* Without the NUL. */
#define SERVER_ID_PEER_BYTES 8

/* The text of a server's public key: base32 (RFC 4648, no padding) of the prefix byte of 'N', @key
 * and CRC-16/XMODEM of both, little-endian. */
void server_id_format(const uint8_t key[32], char ret_id[SERVER_ID_BYTES + 1]);
/* A new one, from the system's random numbers. */
void server_id_random(char ret_id[SERVER_ID_BYTES + 1]);

/* The id of a node in Raft groups as tools show it: sha256(@name)[i] mod 62, mapped to 0-9A-Za-z.
 */
void server_id_peer(const char *name, char ret_peer[SERVER_ID_PEER_BYTES + 1]);
#endif
