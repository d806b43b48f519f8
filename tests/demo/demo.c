/* The demonstration's main: prepare the stream, run publisher and consumer, show figures, bring the
 * killed node back, and judge. See demo.h; run it with scripts/cluster. */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/demo/demo.h"

#define READY_TIMEOUT_US                                                                           \
    30000000 /* For the stream's leader, and for the killed node to be level. */
#define BAR_WIDTH 30

struct demo {
    struct demo_options options;
    const struct demo_node *leader;
    struct demo_publisher publisher;
    struct demo_consumer consumer;
    int64_t level_us; /* From the restart until the killed node had every message; 0: never. */
    uint32_t problems;
    bool is_terminal;
    bool is_kill_shown;
    uint32_t shown_acked;
    int64_t shown_us;
};

int64_t demo_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

uint32_t demo_number(const char *data, int bytes)
{
    uint64_t number = 0;
    int i = 0;
    for (; i < bytes && i < 10 && data[i] >= '0' && data[i] <= '9'; i++) {
        number = number * 10 + (uint64_t)(data[i] - '0');
    }
    return i > 0 && number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

natsStatus demo_connect(natsConnection **ret_conn, const struct demo_node *node, bool is_steadfast)
{
    natsOptions *options = NULL;
    char url[96];
    snprintf(url, sizeof url, "nats://%s", node->url);
    natsStatus s = natsOptions_Create(&options);
    if (s == NATS_OK) {
        s = natsOptions_SetURL(options, url);
    }
    if (s == NATS_OK) {
        s = natsOptions_SetAllowReconnect(options, !is_steadfast);
    }
    if (s == NATS_OK) {
        s = natsOptions_SetMaxPendingMsgs(options, 1000000);
    }
    if (s == NATS_OK) {
        s = natsConnection_Connect(ret_conn, options);
    }
    natsOptions_Destroy(options);
    return s;
}

static void problem(struct demo *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void problem(struct demo *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("  ! ");
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    d->problems++;
}

/* A fresh stream and its consumer. Through any node: all of them take requests. */
static natsStatus make_stream(struct demo *d, jsCtx *js, jsErrCode *code)
{
    const char *subjects[] = {"demo.>"};
    jsStreamConfig stream;
    jsStreamConfig_Init(&stream);
    stream.Name = DEMO_STREAM;
    stream.Subjects = subjects;
    stream.SubjectsLen = 1;
    stream.Replicas = d->options.nodes_count;
    jsConsumerConfig consumer;
    jsConsumerConfig_Init(&consumer);
    consumer.Durable = DEMO_CONSUMER;
    consumer.AckPolicy = js_AckExplicit;
    consumer.AckWait = INT64_C(5000000000);
    consumer.MaxAckPending = 20000;

    natsStatus s = js_DeleteStream(js, DEMO_STREAM, NULL, code);
    s = s == NATS_NOT_FOUND ? NATS_OK : s;
    if (s == NATS_OK) {
        s = js_AddStream(NULL, js, &stream, NULL, code);
    }
    if (s == NATS_OK) {
        s = js_AddConsumer(NULL, js, DEMO_STREAM, &consumer, NULL, code);
    }
    return s;
}

/* The node that leads the stream, or NULL. */
static const struct demo_node *find_leader(struct demo *d, jsCtx *js)
{
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    const struct demo_node *leader = NULL;
    if (js_GetStreamInfo(&info, js, DEMO_STREAM, NULL, &code) == NATS_OK && info->Cluster != NULL &&
        info->Cluster->Leader != NULL) {
        for (int i = 0; i < d->options.nodes_count; i++) {
            if (strcmp(d->options.nodes[i].name, info->Cluster->Leader) == 0) {
                leader = &d->options.nodes[i];
            }
        }
    }
    jsStreamInfo_Destroy(info);
    return leader;
}

/* Connect to @node; false with a message if it cannot be. */
static bool open_js(const struct demo_node *node, natsConnection **ret_conn, jsCtx **ret_js)
{
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = 10000;
    natsStatus s = demo_connect(ret_conn, node, true);
    if (s == NATS_OK) {
        s = natsConnection_JetStream(ret_js, *ret_conn, &options);
    }
    if (s != NATS_OK) {
        fprintf(stderr, "demo: %s at %s: %s\n", node->name, node->url, natsStatus_GetText(s));
    }
    return s == NATS_OK;
}

static void close_js(natsConnection *conn, jsCtx *js)
{
    jsCtx_Destroy(js);
    natsConnection_Destroy(conn);
}

static bool prepare(struct demo *d)
{
    natsConnection *conn = NULL;
    jsCtx *js = NULL;
    jsErrCode code = 0;
    natsStatus s = NATS_ERR;
    if (open_js(&d->options.nodes[0], &conn, &js)) {
        int64_t started_us = demo_now_us();
        /* A young cluster may still be without a leader for its metadata. */
        do {
            s = make_stream(d, js, &code);
        } while (s != NATS_OK && demo_now_us() - started_us < READY_TIMEOUT_US &&
                 usleep(100000) == 0);
        if (s != NATS_OK) {
            fprintf(stderr, "demo: creating the stream: %s (%d)\n", natsStatus_GetText(s),
                    (int)code);
        }
        while (s == NATS_OK && d->leader == NULL && demo_now_us() - started_us < READY_TIMEOUT_US) {
            d->leader = find_leader(d, js);
            usleep(d->leader == NULL ? 20000 : 0);
        }
        if (s == NATS_OK && d->leader == NULL) {
            fprintf(stderr, "demo: the stream has no leader\n");
        }
    }
    close_js(conn, js);
    return d->leader != NULL;
}

static pid_t read_pid(const struct demo_node *node)
{
    FILE *f = fopen(node->pid_file, "r");
    int pid = 0;
    if (f != NULL) {
        if (fscanf(f, "%d", &pid) != 1 || pid <= 1) {
            pid = 0;
        }
        fclose(f);
    }
    return pid;
}

/* Publisher and consumer sit on the two nodes that do not lead. */
static bool cast_roles(struct demo *d)
{
    struct demo_node *nodes = d->options.nodes;
    int leader = (int)(d->leader - nodes);
    d->publisher.options = &d->options;
    d->publisher.node = &nodes[(leader + 1) % DEMO_NODES];
    d->publisher.ack_seqs = calloc(d->options.messages_count, sizeof *d->publisher.ack_seqs);
    d->consumer.options = &d->options;
    d->consumer.node = &nodes[(leader + 2) % DEMO_NODES];
    d->consumer.seen = calloc(d->options.messages_count, 1);
    d->consumer.confirmed = calloc(d->options.messages_count, sizeof *d->consumer.confirmed);
    assert(d->publisher.ack_seqs != NULL && d->consumer.seen != NULL &&
           d->consumer.confirmed != NULL);
    if (d->options.restart != NULL) {
        d->publisher.victim = read_pid(d->leader);
        if (d->publisher.victim == 0 || kill(d->publisher.victim, 0) != 0) {
            fprintf(stderr, "demo: no process in %s\n", d->leader->pid_file);
            return false;
        }
    }
    printf("stream %s: %d replicas, leader %s\n", DEMO_STREAM, d->options.nodes_count,
           d->leader->name);
    printf("publisher through %s, window %u; consumer through %s, explicit confirmed acks\n",
           d->publisher.node->name, d->options.window, d->consumer.node->name);
    if (d->publisher.victim != 0) {
        printf("%s, the leader, will be killed with -9 in the middle\n", d->leader->name);
    }
    return true;
}

/* Show where we are: redrawn in place on a terminal, else a line a second. */
static void show(struct demo *d, bool is_last)
{
    if (!d->is_kill_shown && atomic_load(&d->publisher.has_killed)) {
        d->is_kill_shown = true;
        printf("%s%s killed with -9 when %u messages were acknowledged\n",
               d->is_terminal ? "\r\033[K" : "", d->leader->name, d->options.messages_count / 2);
    }
    int64_t now_us = demo_now_us();
    int64_t elapsed_us = now_us - d->shown_us;
    if (!is_last && elapsed_us < (d->is_terminal ? 100000 : 1000000)) {
        return;
    }
    uint32_t acked = atomic_load(&d->publisher.acked);
    uint32_t confirmed = atomic_load(&d->consumer.confirmed_count);
    uint32_t total = d->options.messages_count;
    char bar[BAR_WIDTH + 1];
    int filled = (int)((uint64_t)acked * BAR_WIDTH / total);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = '\0';
    printf("%s[%s] published %6u/%u, %7.0f/s  consumed %6u%s", d->is_terminal ? "\r" : "", bar,
           acked, total, (double)(acked - d->shown_acked) * 1e6 / (double)(elapsed_us + 1),
           confirmed, d->is_terminal && !is_last ? "   " : "\n");
    fflush(stdout);
    d->shown_acked = acked;
    d->shown_us = now_us;
}

/* Whether the killed node has all messages again. */
static bool is_level(struct demo *d, jsCtx *js)
{
    bool is = false;
    if (d->options.is_dump_wanted) {
        struct demo_replica replica = {0};
        char error[DEMO_ERROR_BYTES];
        is = demo_replica_state(d->leader, &replica, error) == 0 &&
             replica.messages == d->options.messages_count &&
             replica.last_seq == d->publisher.last_seq;
    } else {
        jsStreamInfo *info = NULL;
        jsErrCode code = 0;
        if (js_GetStreamInfo(&info, js, DEMO_STREAM, NULL, &code) == NATS_OK &&
            info->Cluster != NULL) {
            for (int i = 0; i < info->Cluster->ReplicasLen; i++) {
                jsPeerInfo *peer = info->Cluster->Replicas[i];
                is |= strcmp(peer->Name, d->leader->name) == 0 && peer->Current && !peer->Offline;
            }
        }
        jsStreamInfo_Destroy(info);
    }
    return is;
}

static void bring_back(struct demo *d)
{
    char command[1024];
    int length = snprintf(command, sizeof command, "%s %s", d->options.restart, d->leader->name);
    assert(length > 0 && (size_t)length < sizeof command);
    printf("bringing %s back\n", d->leader->name);
    fflush(stdout);
    int64_t started_us = demo_now_us();
    if (system(command) != 0) {
        problem(d, "it did not start: %s", command);
        return;
    }
    natsConnection *conn = NULL;
    jsCtx *js = NULL;
    if (open_js(d->consumer.node, &conn, &js)) {
        while (d->level_us == 0 && demo_now_us() - started_us < READY_TIMEOUT_US) {
            if (is_level(d, js)) {
                d->level_us = demo_now_us() - started_us;
            } else {
                usleep(10000);
            }
        }
    }
    close_js(conn, js);
    if (d->level_us == 0) {
        problem(d, "%s does not have all messages %d s after its start", d->leader->name,
                READY_TIMEOUT_US / 1000000);
    }
}

static void run(struct demo *d)
{
    pthread_t publisher;
    pthread_t consumer;
    d->shown_us = demo_now_us();
    int rv = pthread_create(&publisher, NULL, demo_publish, &d->publisher);
    assert(rv == 0);
    rv = pthread_create(&consumer, NULL, demo_consume, &d->consumer);
    assert(rv == 0);
    while (!atomic_load(&d->publisher.is_done)) {
        show(d, false);
        usleep(5000);
    }
    pthread_join(publisher, NULL);
    if (d->publisher.error[0] != '\0') {
        atomic_store(&d->consumer.must_stop, true); /* It would wait for what was not published. */
    }
    while (!atomic_load(&d->consumer.is_done)) {
        show(d, false);
        usleep(5000);
    }
    pthread_join(consumer, NULL);
    show(d, true);
    if (atomic_load(&d->publisher.has_killed)) {
        bring_back(d);
    }
}

static void judge_publisher(struct demo *d)
{
    struct demo_publisher *p = &d->publisher;
    uint32_t total = d->options.messages_count;
    uint32_t acked = atomic_load(&p->acked);
    double seconds = (double)(p->ended_us - p->started_us) / 1e6;
    printf("published  %u of %u acknowledged in %.2f s, %.0f/s", acked, total, seconds,
           (double)acked / seconds);
    if (atomic_load(&p->has_killed)) {
        printf("; longest time without an ack after the kill %.0f ms", (double)p->gap_us / 1000);
    }
    putchar('\n');
    if (p->error[0] != '\0') {
        problem(d, "%s", p->error);
    }
    if (acked != total) {
        problem(d, "%u publishes have no ack", total - acked);
    }
    if (p->reordered > 0) {
        problem(d, "%u acks out of publish order", p->reordered);
    }
    if (p->victim != 0 && !atomic_load(&p->has_killed)) {
        problem(d, "it ended before the kill");
    }
}

static void judge_consumer(struct demo *d)
{
    struct demo_consumer *c = &d->consumer;
    uint32_t total = d->options.messages_count;
    printf("consumed   %u seen, %u by confirmed ack, %u redelivered\n", atomic_load(&c->seen_count),
           atomic_load(&c->confirmed_count), c->redelivered);
    if (c->error[0] != '\0') {
        problem(d, "%s", c->error);
    }
    if (atomic_load(&c->seen_count) != total || atomic_load(&c->confirmed_count) != total) {
        problem(d, "not every message was seen and confirmed");
    }
    if (c->after_confirmed > 0) {
        problem(d, "%u deliveries after a confirmed ack", c->after_confirmed);
    }
    if (c->misplaced > 0) {
        problem(d, "%u deliveries that cannot be", c->misplaced);
    }
}

/* What the servers themselves say about the consumer. */
static void judge_consumer_info(struct demo *d)
{
    natsConnection *conn = NULL;
    jsCtx *js = NULL;
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;
    if (open_js(d->publisher.node, &conn, &js) &&
        js_GetConsumerInfo(&info, js, DEMO_STREAM, DEMO_CONSUMER, NULL, &code) == NATS_OK) {
        if (info->NumPending != 0 || info->NumAckPending != 0 ||
            info->AckFloor.Stream != d->publisher.last_seq) {
            problem(d,
                    "consumer info: %" PRIu64 " pending, %" PRId64 " unacknowledged, floor %" PRIu64
                    " of %" PRIu64,
                    info->NumPending, (int64_t)info->NumAckPending, info->AckFloor.Stream,
                    d->publisher.last_seq);
        }
    } else {
        problem(d, "no consumer info (%d)", (int)code);
    }
    jsConsumerInfo_Destroy(info);
    close_js(conn, js);
}

/* The states of all replicas, asked again until they agree: they apply the last entries at
 * different moments. Returns whether they came to agree. */
static bool wait_equal(struct demo *d, struct demo_replica replicas[DEMO_NODES], char *error)
{
    int64_t until_us = demo_now_us() + 10000000;
    bool is_equal = false;
    do {
        is_equal = true;
        memset(replicas, 0, DEMO_NODES * sizeof *replicas);
        for (int i = 0; i < DEMO_NODES; i++) {
            is_equal &= demo_replica_state(&d->options.nodes[i], &replicas[i], error) == 0 &&
                        strcmp(replicas[i].hash, replicas[0].hash) == 0;
        }
    } while (!is_equal && demo_now_us() < until_us && usleep(50000) == 0);
    return is_equal;
}

static void judge_replicas(struct demo *d)
{
    struct demo_replica replicas[DEMO_NODES];
    char error[DEMO_ERROR_BYTES] = "";
    bool is_equal = wait_equal(d, replicas, error);
    uint32_t total = d->options.messages_count;
    for (int i = 0; i < DEMO_NODES; i++) {
        const struct demo_node *node = &d->options.nodes[i];
        struct demo_replica *r = &replicas[i];
        if (demo_replica_dump(node, d->publisher.ack_seqs, total, r, error) != 0) {
            problem(d, "%s: %s", node->name, error);
            continue;
        }
        printf("replica %s %u messages, sequences %" PRIu64 " to %" PRIu64
               ", %u missing, %u doubled, hash %s%s\n",
               node->name, r->stored, r->first_seq, r->last_seq, r->missing, r->doubled, r->hash,
               node == d->leader && d->level_us > 0 ? "  (was killed)" : "");
        if (r->stored != total || r->messages != total || r->missing > 0 || r->doubled > 0 ||
            r->misplaced > 0 || r->last_seq - r->first_seq + 1 != total) {
            problem(d, "%s does not hold each message once: %" PRIu64 " counted, %u misplaced",
                    node->name, r->messages, r->misplaced);
        }
    }
    if (!is_equal) {
        problem(d, "the replicas' hashes differ%s%s", error[0] != '\0' ? ": " : "", error);
    }
}

static int judge(struct demo *d)
{
    judge_publisher(d);
    judge_consumer(d);
    if (atomic_load(&d->publisher.has_killed) && d->level_us > 0) {
        printf("%s back    level %.2f s after it was started\n", d->leader->name,
               (double)d->level_us / 1e6);
    }
    judge_consumer_info(d);
    if (d->options.is_dump_wanted) {
        judge_replicas(d);
    }
    if (d->problems > 0) {
        printf("FAILED: %u problem%s\n", d->problems, d->problems == 1 ? "" : "s");
        return 1;
    }
    printf("OK: %u messages, each acknowledged, stored%s and confirmed exactly once\n",
           d->options.messages_count, d->options.is_dump_wanted ? " on every replica" : "");
    return 0;
}

static const char usage[] =
    "usage: weir_demo --node NAME,HOST:PORT,HOST:MONITORING_PORT,PID_FILE (three times)\n"
    "  --restart COMMAND  kill the leader in the middle, bring it back with COMMAND NAME\n"
    "  --no-kill          do not, whatever --restart says\n"
    "  --no-dump          do not ask replicas what they hold (a server without /replicaz)\n"
    "  --messages N       default 100000\n"
    "  --window N         publishes without ack at most, default 1000\n"
    "  --size BYTES       of a payload, default 128\n";

static bool parse_node(struct demo_options *o, char *text)
{
    char *parts[4];
    char *rest = text;
    for (int i = 0; i < 4; i++) {
        parts[i] = strsep(&rest, ",");
        if (parts[i] == NULL || parts[i][0] == '\0') {
            return false;
        }
    }
    if (o->nodes_count == DEMO_NODES) {
        return false;
    }
    struct demo_node *node = &o->nodes[o->nodes_count++];
    snprintf(node->name, sizeof node->name, "%s", parts[0]);
    snprintf(node->url, sizeof node->url, "%s", parts[1]);
    snprintf(node->monitoring, sizeof node->monitoring, "%s", parts[2]);
    return snprintf(node->pid_file, sizeof node->pid_file, "%s", parts[3]) <
           (int)sizeof node->pid_file;
}

static bool parse_number(const char *text, uint32_t min, uint32_t max, uint32_t *ret_value)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max) {
        return false;
    }
    *ret_value = (uint32_t)value;
    return true;
}

static bool parse_options(struct demo_options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"node", required_argument, NULL, 'n'},     {"restart", required_argument, NULL, 'r'},
        {"no-kill", no_argument, NULL, 'k'},        {"no-dump", no_argument, NULL, 'd'},
        {"messages", required_argument, NULL, 'm'}, {"window", required_argument, NULL, 'w'},
        {"size", required_argument, NULL, 's'},     {NULL, 0, NULL, 0},
    };
    *o = (struct demo_options){
        .messages_count = 100000, .window = 1000, .payload_bytes = 128, .is_dump_wanted = true};
    bool is_kill_wanted = true;
    bool is_good = true;
    int c = 0;
    while (is_good && (c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'n':
            is_good = parse_node(o, optarg);
            break;
        case 'r':
            o->restart = optarg;
            break;
        case 'k':
            is_kill_wanted = false;
            break;
        case 'd':
            o->is_dump_wanted = false;
            break;
        case 'm':
            is_good = parse_number(optarg, 2, 100000000, &o->messages_count);
            break;
        case 'w':
            is_good = parse_number(optarg, 1, 100000, &o->window);
            break;
        case 's':
            is_good = parse_number(optarg, 16, 1000000, &o->payload_bytes);
            break;
        default:
            is_good = false;
        }
    }
    if (!is_kill_wanted) {
        o->restart = NULL;
    }
    return is_good && optind == argc && o->nodes_count == DEMO_NODES;
}

int main(int argc, char **argv)
{
    struct demo *d = calloc(1, sizeof *d);
    assert(d != NULL);
    if (!parse_options(&d->options, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    d->is_terminal = isatty(STDOUT_FILENO);
    int rv = 1;
    if (prepare(d) && cast_roles(d)) {
        run(d);
        rv = judge(d);
    } else {
        printf("FAILED: it could not begin\n");
    }
    free(d->publisher.ack_seqs);
    free(d->consumer.seen);
    free(d->consumer.confirmed);
    free(d);
    nats_Close();
    return rv;
}
