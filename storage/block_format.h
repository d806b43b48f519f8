/* The format of a message block. All numbers are little-endian, nothing is padded unless said so.
 *
 * A data file (data-<number>.wblk) is a row of blocks, each written once and never changed. What a
 * flush pass adds begins on a 4 KiB boundary (zeros before it), so that pages with durable bytes
 * are never written again. Where blocks begin and end is said by the checkpoint journal only.
 *
 *   block := header (64) | records | index | subject table | absent set | footer (96)
 *
 * Header:
 *    0  u32  magic "WBK1"             32  u64  first sequence
 *    4  u16  format version, 1        40  u64  last sequence
 *    6  u16  0                        48  i64  base time, ns: the least in the block
 *    8  u32  machine version          56  u32  records
 *   12  u32  crc32c of the header,    60  u32  0
 *            this field taken as 0
 *   16  u64  gid
 *   24  u64  sid
 *
 * Record, in sequence order, back to back:
 *    0  u32  crc32c of the sid (u64), then of all that follows up to the end of the record
 *    4  u8   format version, 1
 *    5  u8   flags of the embedder
 *    6  u16  bytes of the subject
 *    8  u32  bytes of the headers
 *   12  u32  bytes of the payload
 *   16  u64  sequence
 *   24  i64  time, ns since 1970
 *   32  subject, headers, payload
 *
 * Index, an entry of 16 bytes for each record:
 *    0  u16  number of its subject in the table, 0 first
 *    2  u8   flags
 *    3  u24  bytes of the headers
 *    6  u48  time minus the base time, ns
 *   12  u32  bytes of the payload
 *
 * Subject table, in order of first use: u16 bytes, u32 records with it, the subject.
 *
 * Absent set: sequences between first and last for which there is no record, as offsets from first,
 * in the encoding of bitset_encode(): u8 0, then pairs of varints (clear bits, set bits) …; or u8
 * 1, then the bits themselves, bit n in byte n / 8. Zero bytes long when nothing is absent.
 *
 * Footer:
 *    0  u32  magic "WBKF"             48  u32  records
 *    4  u32  crc32c of the footer,    52  u32  subjects
 *            this field taken as 0    56  u32  offset of the index in the block
 *    8  u64  sid                      60  u32  offset of the subject table
 *   16  u64  first sequence           64  u32  offset of the absent set
 *   24  u64  last sequence            68  u32  crc32c of index, subject table and absent set
 *   32  i64  least time               72  u32  crc32c of the records
 *   40  i64  greatest time            76  u32  bytes of the whole block
 *                                     80  16 bytes of 0 */
#ifndef STORAGE_BLOCK_FORMAT_H
#define STORAGE_BLOCK_FORMAT_H
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "storage/base/crc32c.h"

#define BLOCK_MAGIC 0x314b4257u
#define BLOCK_FOOTER_MAGIC 0x464b4257u
#define BLOCK_FORMAT_VERSION 1
#define BLOCK_HEADER_BYTES 64u
#define BLOCK_FOOTER_BYTES 96u
#define RECORD_HEADER_BYTES 32u
#define INDEX_ENTRY_BYTES 16u
/* Sequences a block may span: subject numbers then fit in 16 bits. */
#define BLOCK_SPAN_MAX 65535u
/* Nanoseconds that index entries of one block may span. */
#define BLOCK_TIME_SPAN_MAX ((INT64_C(1) << 48) - 1)
#define BLOCK_ALIGN 4096u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are little-endian");

static inline uint16_t get_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void put_u16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void put_u32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void put_u64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline uint64_t align_up(uint64_t v)
{
    return (v + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
}

/* The fields of a record's header. The record itself must lie in memory whole. */
static inline uint16_t record_subject_bytes(const uint8_t *r)
{
    return get_u16(r + 6);
}
static inline uint32_t record_header_bytes(const uint8_t *r)
{
    return get_u32(r + 8);
}
static inline uint32_t record_payload_bytes(const uint8_t *r)
{
    return get_u32(r + 12);
}
static inline uint64_t record_seq(const uint8_t *r)
{
    return get_u64(r + 16);
}
static inline int64_t record_time(const uint8_t *r)
{
    return (int64_t)get_u64(r + 24);
}
/* 64 bits: the three lengths of a damaged header may be anything. */
static inline uint64_t record_bytes(const uint8_t *r)
{
    return (uint64_t)RECORD_HEADER_BYTES + record_subject_bytes(r) + record_header_bytes(r) +
           record_payload_bytes(r);
}
/* Bound to the stream by the sid, to its place by the sequence inside. */
static inline uint32_t record_crc(const uint8_t *r, uint64_t sid)
{
    uint8_t id[8];
    put_u64(id, sid);
    return crc32c(crc32c(0, id, sizeof id), r + 4, (size_t)record_bytes(r) - 4);
}
#endif
