#include "raft/compat.h"

#include <assert.h>
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/buf.h"
#include "storage/base/log.h"

/* The layout of 0.15.0; another one would be silent memory corruption. */
_Static_assert(sizeof(struct raft) == 656, "libraft 0.15.0 is required");
_Static_assert(sizeof(struct raft_log) == 72, "libraft 0.15.0 is required");
_Static_assert(sizeof(struct raft_progress) == 56, "libraft 0.15.0 is required");

/* Progress towards the heap: atomics, since a process may drive several hosts on threads. */
static atomic_uint_fast64_t heap_bytes;

static void *heap_count(void *p)
{
    atomic_fetch_add_explicit(&heap_bytes, malloc_usable_size(p), memory_order_relaxed);
    return p;
}

static void heap_uncount(void *p)
{
    if (p != NULL) {
        atomic_fetch_sub_explicit(&heap_bytes, malloc_usable_size(p), memory_order_relaxed);
    }
}

/* libraft's paths on a failed allocation leak and half-append: none may ever fail. */
static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    return heap_count(xmalloc(size));
}

static void heap_free(void *data, void *ptr)
{
    (void)data;
    heap_uncount(ptr);
    free(ptr);
}

static void *heap_calloc(void *data, size_t nmemb, size_t size)
{
    (void)data;
    return heap_count(xcalloc(nmemb, size));
}

static void *heap_realloc(void *data, void *ptr, size_t size)
{
    (void)data;
    heap_uncount(ptr);
    return heap_count(xrealloc(ptr, size));
}

static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    return heap_count(xaligned_alloc(alignment, size));
}

static void heap_aligned_free(void *data, size_t alignment, void *ptr)
{
    (void)data;
    (void)alignment;
    heap_uncount(ptr);
    free(ptr);
}

static struct raft_heap heap = {
    .data = NULL,
    .malloc = heap_malloc,
    .free = heap_free,
    .calloc = heap_calloc,
    .realloc = heap_realloc,
    .aligned_alloc = heap_aligned_alloc,
    .aligned_free = heap_aligned_free,
};

void compat_init(void)
{
    static atomic_flag is_done = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&is_done)) {
        return;
    }
    Dl_info info;
    /* A function's address as an object pointer is POSIX, not C. */
    int (*fn)(struct raft *) = raft_start;
    void *address;
    memcpy(&address, &fn, sizeof address);
    if (dladdr(address, &info) != 0 && strstr(info.dli_fname, ".so") != NULL &&
        strstr(info.dli_fname, "libraft.so.2") == NULL) {
        log_fatal("libraft.so.2 is required, %s was loaded", info.dli_fname);
    }
    raft_heap_set(&heap);
}

uint64_t compat_heap_bytes(void)
{
    return atomic_load_explicit(&heap_bytes, memory_order_relaxed);
}

size_t compat_log_count(const struct raft *r)
{
    const struct raft_log *l = &r->log;
    if (l->front <= l->back) {
        return l->back - l->front;
    }
    return l->size - l->front + l->back;
}

raft_index compat_log_first(const struct raft *r)
{
    return r->log.offset + 1;
}

raft_index compat_log_last(const struct raft *r)
{
    size_t n = compat_log_count(r);
    if (n == 0 && r->log.snapshot.last_index != 0) {
        return r->log.snapshot.last_index > r->log.offset ? r->log.snapshot.last_index
                                                          : r->log.offset;
    }
    return r->log.offset + n;
}

const struct raft_entry *compat_entry(const struct raft *r, raft_index index)
{
    const struct raft_log *l = &r->log;
    if (index <= l->offset || index - l->offset > compat_log_count(r)) {
        return NULL;
    }
    return &l->entries[(l->front + (index - 1 - l->offset)) % l->size];
}

raft_term compat_term_at(const struct raft *r, raft_index index)
{
    if (index != 0 && index == r->log.snapshot.last_index) {
        return r->log.snapshot.last_term;
    }
    const struct raft_entry *e = compat_entry(r, index);
    return e == NULL ? 0 : e->term;
}

static int member_at(const struct raft *r, raft_id id)
{
    for (unsigned i = 0; i < r->configuration.n; i++) {
        if (r->configuration.servers[i].id == id) {
            return (int)i;
        }
    }
    return -1;
}

int compat_role(const struct raft *r, raft_id id)
{
    int i = member_at(r, id);
    return i < 0 ? -1 : r->configuration.servers[i].role;
}

unsigned compat_voters(const struct raft *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->configuration.n; i++) {
        n += r->configuration.servers[i].role == RAFT_VOTER;
    }
    return n;
}

bool compat_is_sole_voter(const struct raft *r, raft_id id)
{
    return compat_role(r, id) == RAFT_VOTER && compat_voters(r) == 1;
}

raft_index compat_match_index(const struct raft *r, raft_id id)
{
    assert(r->state == RAFT_LEADER);
    int i = member_at(r, id);
    return i < 0 ? 0 : r->leader_state.progress[i].match_index;
}

bool compat_is_recent(const struct raft *r, raft_id id)
{
    assert(r->state == RAFT_LEADER);
    int i = member_at(r, id);
    return i >= 0 && r->leader_state.progress[i].recent_recv;
}

void compat_expire_send(struct raft *r, raft_id id)
{
    assert(r->state == RAFT_LEADER);
    int i = member_at(r, id);
    if (i >= 0) {
        r->leader_state.progress[i].last_send = 0;
    }
}

bool compat_is_probing_below(const struct raft *r, raft_id id, raft_index next)
{
    const unsigned short probe = 0; /* PROGRESS__PROBE; else the core knows, or sends an image. */
    assert(r->state == RAFT_LEADER);
    int i = member_at(r, id);
    return i >= 0 && r->leader_state.progress[i].state == probe &&
           r->leader_state.progress[i].next_index < next;
}

void compat_probe_from(struct raft *r, raft_id id, raft_index next)
{
    assert(r->state == RAFT_LEADER);
    assert(next <= compat_log_last(r) + 1);
    int i = member_at(r, id);
    if (i >= 0) {
        r->leader_state.progress[i].next_index = next;
    }
}

void compat_expire_quorum(struct raft *r, raft_time now)
{
    assert(r->state == RAFT_LEADER);
    for (unsigned i = 0; i < r->configuration.n; i++) {
        r->leader_state.progress[i].recent_recv = false;
    }
    compat_expire_timer(r, now);
}

bool compat_is_pre_candidate(const struct raft *r)
{
    return r->state == RAFT_CANDIDATE && r->candidate_state.in_pre_vote;
}

void compat_forget_leader(struct raft *r)
{
    if (r->state == RAFT_FOLLOWER) {
        r->follower_state.current_leader.id = 0;
    }
}

void compat_expire_timer(struct raft *r, raft_time now)
{
    /* Twice the largest randomized timeout that the options allow is far below this. */
    const raft_time long_ago_ms = 1000000;
    assert(now > long_ago_ms);
    r->election_timer_start = now - long_ago_ms;
}
