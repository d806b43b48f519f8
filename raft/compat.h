/* The only place that knows the inside of libraft 0.15's structs (raft-guide 4.3).
 *
 * Everything else goes through these readers, and through six writers: the election timer, the
 * known leader, when a member was last sent to and from which entry on, who was heard of late, the
 * trim settings (which libraft has setters for). */
#ifndef RAFT_COMPAT_H
#define RAFT_COMPAT_H
#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

/* Install libraft's heap (aborting when memory is out, counting) once per process, and check that
 * the library loaded is libraft.so.2. Must come before any other call into libraft. */
void compat_init(void);
/* Bytes libraft has allocated now. */
uint64_t compat_heap_bytes(void);

/* First index in memory and number of entries from there. */
raft_index compat_log_first(const struct raft *r);
size_t compat_log_count(const struct raft *r);
raft_index compat_log_last(const struct raft *r); /* Of the snapshot, when there are no entries. */
/* The entry, or NULL when it is not in memory. */
const struct raft_entry *compat_entry(const struct raft *r, raft_index index);
/* Its term, also that of the snapshot's last index; 0 when it is not known. */
raft_term compat_term_at(const struct raft *r, raft_index index);

/* Role of @id in the configuration in use, or -1. */
int compat_role(const struct raft *r, raft_id id);
unsigned compat_voters(const struct raft *r);
bool compat_is_sole_voter(const struct raft *r, raft_id id);
/* On a leader only. 0 when @id is no member. */
raft_index compat_match_index(const struct raft *r, raft_id id);
bool compat_is_recent(const struct raft *r, raft_id id);
/* On a leader only: the next tick sends @id entries or a heartbeat, however long ago the last was.
 * Only a timer: what is sent and when it counts does not depend on it. */
void compat_expire_send(struct raft *r, raft_id id);
/* On a leader only: it has heard nothing of what @id has, and is to probe from an index that is not
 * above @next. Entries count only when @id has said that it has them, wherever they begin. */
bool compat_is_probing_below(const struct raft *r, raft_id id, raft_index next);
/* On a leader only: send @id entries from @next on, at most the last index + 1. */
void compat_probe_from(struct raft *r, raft_id id, raft_index next);

/* On a leader only: at the next tick it finds that no majority answers, and steps down. */
void compat_expire_quorum(struct raft *r, raft_time now);

/* A candidate that asks whether it could win, before it raises the term. */
bool compat_is_pre_candidate(const struct raft *r);
/* A follower stops believing in its leader, so that it answers (pre-)votes. */
void compat_forget_leader(struct raft *r);
/* Make the election timer due at the next tick. */
void compat_expire_timer(struct raft *r, raft_time now);
#endif
