#include "cluster/server_id.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

#include "cluster/sha256.h"

#define PREFIX_SERVER (13u << 3)

static uint16_t crc16(const uint8_t *ptr, size_t len)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)(ptr[i] << 8));
        for (int bit = 0; bit < 8; bit++) {
            uint32_t next = (uint32_t)crc << 1;
            crc = (uint16_t)((crc & 0x8000u) != 0 ? next ^ 0x1021u : next);
        }
    }
    return crc;
}

void server_id_format(const uint8_t key[32], char ret_id[SERVER_ID_BYTES + 1])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    uint8_t raw[35];
    raw[0] = PREFIX_SERVER;
    memcpy(raw + 1, key, 32);
    uint16_t crc = crc16(raw, 33);
    raw[33] = (uint8_t)crc;
    raw[34] = (uint8_t)(crc >> 8);
    uint32_t bits = 0;
    unsigned bits_count = 0;
    size_t out = 0;
    for (size_t i = 0; i < sizeof raw; i++) {
        bits = (bits << 8 | raw[i]) & 0xffffu;
        bits_count += 8;
        while (bits_count >= 5) {
            bits_count -= 5;
            ret_id[out++] = alphabet[bits >> bits_count & 31u];
        }
    }
    assert(out == SERVER_ID_BYTES);
    ret_id[out] = '\0';
}

void server_id_random(char ret_id[SERVER_ID_BYTES + 1])
{
    uint8_t key[32];
    ssize_t n = getrandom(key, sizeof key, 0);
    assert(n == sizeof key);
    (void)n;
    server_id_format(key, ret_id);
}

void server_id_peer(const char *name, char ret_peer[SERVER_ID_PEER_BYTES + 1])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t hash[SHA256_BYTES];
    sha256_str(name, hash);
    for (int i = 0; i < SERVER_ID_PEER_BYTES; i++) {
        ret_peer[i] = digits[hash[i] % 62];
    }
    ret_peer[SERVER_ID_PEER_BYTES] = '\0';
}
