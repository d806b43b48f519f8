/* The write-ahead log on disk. Little-endian throughout.
 *
 * wal-<seq>.log: 4 KiB file header, then frames, each a multiple of 4 KiB. Zero-filled, headed and
 * synced as *.tmp, then renamed: so a *.log without a good header, or shorter than its header says,
 * is damage. Recycled in place: only the header's first sector changes, so it is the old or the
 * new.
 *
 * File header (64 bytes, the rest of the 4 KiB is zero and ignored):
 *    0 u64 magic "weirwal\n"    8 u32 version (1)      12 u32 salt
 *   16 u8[16] node uuid        32 u64 seq              40 u64 generation
 *   48 u64 file_bytes          56 u32 zero             60 u32 crc32c of bytes 0 to 59
 *
 * The last 4 bytes of each 512-byte sector of a frame are a stamp made of (salt, lsn). What follows
 * is a stream of bytes through the other 508; crcs are taken without the stamps.
 *
 * Frame header (64 bytes):
 *    0 u32 magic                4 u32 crc32c of bytes 8 to 63
 *    8 u32 salt                12 u32 flags (FOOTER, GAP)
 *   16 u64 lsn of the first record (in a footer: the next LSN)
 *   24 u32 body length         28 u32 number of records
 *   32 u32 crc32c of the body  36 u32 header crc of the frame before; of the file header, if none
 *   40 u64 durable_lsn: highest LSN known synced when this frame was built
 *   48 u64 trim_lsn: no record below is needed; a segment is reused once a frame saying so is
 *      synced
 *   56 u64 gap_from: with GAP, the first LSN that is lost; else 0
 * A body is records, each 8-byte aligned; a footer's body is the u64 gids of the segment. It is
 * written when the file of the next segment has its name: the newest file never has one.
 *
 * Record: 0 u32 crc32c of the rest (header from 4 on and payload)   4 u32 payload length
 *         8 u64 gid    16 u8 type   17 u8[7] zero   24 payload, zero padding to 8 bytes
 * The LSN of record i of a frame is lsn + i.
 *
 * LSNs rise over frames and segments without gaps, but for a frame flagged GAP (salvaged: what was
 * before it is lost, and was reported). A segment may begin at or below the LSN reached in the one
 * before: it supersedes that tail (recovery logs the tail again).
 *
 * Every frame keeps to this; one that does not is damage, whatever its checksums say: 1 <= lsn <=
 * WAL_NUMBER_MAX; durable_lsn < lsn, in a footer lsn - 1; trim_lsn <= durable_lsn + 1; gap_from
 * from 1 to lsn - 1 with GAP, else 0. A footer has no records and no GAP, another frame has at
 * least one record, none larger than WAL_RECORD_BYTES_MAX. In file headers seq and generation are
 * at most WAL_NUMBER_MAX, file_bytes at most WAL_FILE_BYTES_MAX. */
#ifndef STORAGE_WAL_FORMAT_H
#define STORAGE_WAL_FORMAT_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WAL_FILE_MAGIC 0x0a6c617772696577u /* "weirwal\n" */
#define WAL_VERSION 1u
#define WAL_FRAME_MAGIC 0x4d524657u /* "WFRM" */
#define WAL_BLOCK_BYTES 4096u
#define WAL_SECTOR_BYTES 512u
#define WAL_SECTOR_DATA 508u
#define WAL_FILE_HEADER_BYTES 64u
#define WAL_FRAME_HEADER_BYTES 64u
#define WAL_RECORD_HEADER_BYTES 24u
#define WAL_NUMBER_MAX (UINT64_C(1) << 62) /* Sums of two cannot wrap. */
#define WAL_NUMBER_ROOM                                                                            \
    (UINT64_C(1) << 40) /* A log with less room for LSNs is not gone on with.                      \
                         */
#define WAL_FILE_BYTES_MAX (UINT64_C(1) << 30)
#define WAL_FRAME_FOOTER 1u
#define WAL_FRAME_GAP 2u

/* The WAL's own records. SUSPECT keeps a finding of recovery until the host clears it: payload
 * empty, the gid says whom, WAL_GID_ALL everybody. */
#define WAL_TYPE_WATERMARK 1
#define WAL_TYPE_SUSPECT 2 /* WAL_TYPE_CLEARED, 3, is in wal.h. */

static inline uint32_t wal_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t wal_get64(const uint8_t *p)
{
    return wal_get32(p) | (uint64_t)wal_get32(p + 4) << 32;
}
static inline void wal_put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}
static inline void wal_put64(uint8_t *p, uint64_t v)
{
    wal_put32(p, (uint32_t)v);
    wal_put32(p + 4, (uint32_t)(v >> 32));
}
/* Where byte @x of the stream lies in the frame. */
static inline size_t wal_physical(size_t x)
{
    return x / WAL_SECTOR_DATA * WAL_SECTOR_BYTES + x % WAL_SECTOR_DATA;
}
/* Bytes on disk of a frame with this body. */
static inline uint64_t wal_frame_bytes(uint64_t body)
{
    uint64_t sectors = (WAL_FRAME_HEADER_BYTES + body + WAL_SECTOR_DATA - 1) / WAL_SECTOR_DATA;
    return (sectors * WAL_SECTOR_BYTES + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
}
/* Never 0, so that a zeroed sector bears no stamp. */
static inline uint32_t wal_stamp(uint32_t salt, uint64_t lsn)
{
    uint64_t z = (lsn + salt * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 29) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(z >> 32) | 1u;
}
#endif
