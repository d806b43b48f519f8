/* What the sim_store*.c files share; see sim_store.h. */
#ifndef TESTS_SIM_STORE_INTERNAL_H
#define TESTS_SIM_STORE_INTERNAL_H
#include "cluster/js_batch.h"
#include "cluster/js_clock.h"
#include "cluster/js_flush.h"
#include "cluster/js_image.h"
#include "cluster/js_internal.h"
#include "cluster/js_lane.h"
#include "cluster/js_leader.h"
#include "cluster/js_mend.h"
#include "cluster/js_meta.h"
#include "cluster/js_meta_image.h"
#include "cluster/js_read.h"
#include "cluster/js_rebuild.h"
#include "cluster/js_replicas.h"
#include "cluster/js_scrub.h"
#include "cluster/js_send.h"
#include "cluster/js_state.h"
#include "cluster/js_stream.h"
#include "cluster/node.h"
#include "cluster/node_options.h"
#include "tests/sim/sim_internal.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_store.h"

#define SIM_STORE_DIR "/store"

/* Calls that change the disk, in front of the disk's own. */
struct sim_store_files {
    struct file_ops ops; /* Given to the store. */
    const struct file_ops *real;
    uint64_t left;   /* So many more changes are made, */
    uint64_t failed; /* and so many failed. */
    enum sim_planted planted;
};
void sim_store_files_init(struct sim_store_files *f, const struct file_ops *real,
                          enum sim_planted planted);

struct sim_store {
    struct sim_node *n;
    struct loop loop;
    struct sim_store_files files;
    struct js js;
    struct node_context ctx;
    struct node_options options;
    struct js_stream streams[SIM_GROUPS_MAX];
    char name[8]; /* Of all of them, for logs. */
    bool has_flush_work;
    bool is_io_broken; /* A call was made to fail: the process may end over it. */
    struct buf item;   /* Of js_batch_begin. */
};

static inline struct sim_store *sim_store_of_js(const struct js *js)
{
    return container_of(js, struct sim_store, js);
}

static inline struct sim_replica *sim_replica_of(const struct js_stream *st)
{
    return &sim_store_of_js(st->js)->n->replicas[sim_group_of(st->gid)];
}

static inline struct js_stream *sim_stream_of(const struct sim_replica *r)
{
    return &r->node->store->streams[r->group];
}

/* The state of @r is gone, or another one has come with an image. */
void sim_store_gone(struct sim_replica *r);
void sim_store_came(struct sim_replica *r);
/* The whole state is the one that others had at this index. */
void sim_store_check_hash(struct sim_replica *r);
/* True while the process ends: what is told to the host is not heard. */
bool sim_store_is_closing(void);
#endif
