/* The links between nodes in namespaces, with delay, loss, reordering, doubles and a rate: what `tc
 * netem` does where the kernel has it.
 *
 *     wire NAMESPACE...
 *
 * In each namespace there is a TUN device eth0; node i has the address 10.77.0.(i + 1), and what is
 * sent to another one's address comes out there. Commands are lines of standard input:
 *
 *     seed N
 *     link FROM TO DELAY_US JITTER_US LOSS_PERMILLE DOUBLE_PERMILLE BYTES_PER_S
 *                    From then on. Jitter is drawn for each packet, so that packets overtake each
 *                    other. Rate 0: none. A link holds 1,000 packets; what is more is lost.
 *     figures        One line: packets lost doubled delayed reordered
 *
 * Each command but `figures` is answered by "ok". It ends at the end of its input. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 16
#define HELD_MAX 1000
#define PACKET_MAX 65536u

struct link {
    uint64_t delay_us;
    uint64_t jitter_us;
    uint64_t bytes_per_s;
    unsigned loss_permille;
    unsigned double_permille;
    unsigned held;
    uint64_t free_ns; /* When the last byte of those before is on the line. */
    uint64_t sent;
    uint64_t arrived; /* The highest number that arrived. */
};

struct packet {
    uint64_t due_ns;
    uint64_t number; /* On its link. */
    int from;
    int to;
    size_t len;
    uint8_t *data;
};

static struct link links[PORTS_MAX][PORTS_MAX];
static int ports[PORTS_MAX];
static int ports_count;
static struct packet heap[PORTS_MAX * PORTS_MAX * HELD_MAX * 2]; /* By due_ns, then number. */
static size_t heap_len;
static uint64_t random_state = 1;
static struct {
    uint64_t packets, lost, doubled, delayed, reordered;
} figures;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Source: xorshift64*, Marsaglia 2003, Vigna 2016. */
static uint64_t next_random(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dULL;
}

static bool is_likely(unsigned permille)
{
    return next_random() % 1000 < permille;
}

static bool is_before(const struct packet *a, const struct packet *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void heap_add(struct packet p)
{
    size_t at = heap_len++;
    while (at > 0 && is_before(&p, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = p;
}

static struct packet heap_take(void)
{
    struct packet first = heap[0];
    struct packet p = heap[--heap_len];
    size_t at = 0;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= heap_len) {
            break;
        }
        if (child + 1 < heap_len && is_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (!is_before(&heap[child], &p)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = p;
    return first;
}

/* Make the device in the namespace; this process stays where it was. */
static int open_port(const char *namespace)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int other = open(path, O_RDONLY | O_CLOEXEC);
    if (home < 0 || other < 0) {
        die(path);
    }
    struct ifreq name = {.ifr_name = "eth0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (setns(other, CLONE_NEWNET) != 0) {
        die("setns");
    }
    /* The device belongs to the namespace in which this is opened. */
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &name) != 0) {
        die("/dev/net/tun");
    }
    if (setns(home, CLONE_NEWNET) != 0) {
        die("setns");
    }
    close(home);
    close(other);
    return fd;
}

static void hold(int from, int to, const uint8_t *data, size_t len, uint64_t now)
{
    struct link *l = &links[from][to];
    if (l->held >= HELD_MAX || is_likely(l->loss_permille)) {
        figures.lost++;
        return;
    }
    uint64_t due = now;
    if (l->bytes_per_s > 0) {
        l->free_ns = (l->free_ns > now ? l->free_ns : now) + len * 1000000000u / l->bytes_per_s;
        due = l->free_ns;
    }
    due += l->delay_us * 1000;
    due += l->jitter_us > 0 ? next_random() % (l->jitter_us * 1000) : 0;
    uint8_t *copy = malloc(len);
    if (copy == NULL) {
        die("malloc");
    }
    memcpy(copy, data, len);
    figures.delayed += due > now;
    l->held++;
    heap_add((struct packet){due, ++l->sent, from, to, len, copy});
}

static void take_in(int from)
{
    static uint8_t data[PACKET_MAX];
    for (int burst = 0; burst < 64; burst++) {
        ssize_t n = read(ports[from], data, sizeof data);
        if (n <= 0) {
            return;
        }
        /* IPv4 to 10.77.0.(to + 1); the kernel also says things in IPv6 that nobody asked for. */
        int to = n >= 20 && data[0] >> 4 == 4 ? data[19] - 1 : -1;
        if (to < 0 || to >= ports_count || to == from) {
            continue;
        }
        figures.packets++;
        uint64_t now = now_ns();
        hold(from, to, data, (size_t)n, now);
        if (is_likely(links[from][to].double_permille)) {
            figures.doubled++;
            hold(from, to, data, (size_t)n, now);
        }
    }
}

static void give_out(void)
{
    while (heap_len > 0 && heap[0].due_ns <= now_ns()) {
        struct packet p = heap_take();
        struct link *l = &links[p.from][p.to];
        l->held--;
        if (p.number < l->arrived) {
            figures.reordered++;
        } else {
            l->arrived = p.number;
        }
        /* A device that is down or full loses it, as a wire would. */
        if (write(ports[p.to], p.data, p.len) < 0 && errno != EIO && errno != EAGAIN) {
            die("write");
        }
        free(p.data);
    }
}

static bool command(const char *line)
{
    int from;
    int to;
    struct link l = {0};
    unsigned long long delay;
    unsigned long long jitter;
    unsigned long long rate;
    unsigned long long seed;
    if (strcmp(line, "figures") == 0) {
        printf("%llu %llu %llu %llu %llu\n", (unsigned long long)figures.packets,
               (unsigned long long)figures.lost, (unsigned long long)figures.doubled,
               (unsigned long long)figures.delayed, (unsigned long long)figures.reordered);
        return true;
    }
    if (sscanf(line, "seed %llu", &seed) == 1) {
        random_state = seed * 2 + 1;
    } else if (sscanf(line, "link %d %d %llu %llu %u %u %llu", &from, &to, &delay, &jitter,
                      &l.loss_permille, &l.double_permille, &rate) == 7 &&
               from >= 0 && from < ports_count && to >= 0 && to < ports_count) {
        struct link *old = &links[from][to];
        old->delay_us = delay;
        old->jitter_us = jitter;
        old->bytes_per_s = rate;
        old->loss_permille = l.loss_permille;
        old->double_permille = l.double_permille;
        old->free_ns = 0;
    } else {
        return false;
    }
    printf("ok\n");
    return true;
}

/* False at the end. */
static bool take_commands(void)
{
    static char text[4096];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, text + len, sizeof text - 1 - len);
    if (n <= 0) {
        return false;
    }
    len += (size_t)n;
    text[len] = '\0';
    char *line = text;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (!command(line)) {
            fprintf(stderr, "wire: %s?\n", line);
            return false;
        }
    }
    len = strlen(line);
    memmove(text, line, len);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc - 1 > PORTS_MAX) {
        fprintf(stderr, "usage: wire NAMESPACE...\n");
        return 2;
    }
    struct pollfd polled[PORTS_MAX + 1];
    ports_count = argc - 1;
    for (int i = 0; i < ports_count; i++) {
        ports[i] = open_port(argv[i + 1]);
        polled[i] = (struct pollfd){.fd = ports[i], .events = POLLIN};
    }
    polled[ports_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    printf("ok\n");
    fflush(stdout);
    for (;;) {
        struct timespec wait = {1, 0};
        uint64_t now = now_ns();
        if (heap_len > 0) {
            uint64_t left = heap[0].due_ns > now ? heap[0].due_ns - now : 0;
            wait = left < 1000000000u ? (struct timespec){0, (long)left} : wait;
        }
        if (ppoll(polled, (nfds_t)ports_count + 1, &wait, NULL) < 0 && errno != EINTR) {
            die("ppoll");
        }
        for (int i = 0; i < ports_count; i++) {
            if ((polled[i].revents & POLLIN) != 0) {
                take_in(i);
            }
        }
        give_out();
        if (polled[ports_count].revents != 0 && !take_commands()) {
            return 0;
        }
    }
}
