#include <signal.h>
#include <stdlib.h>

#include <uv.h>

#include "cluster/loop.h"
#include "cluster/signals.h"
#include "storage/base/buf.h"

#define SIGNALS_COUNT 5

struct signals {
    uv_signal_t handles[SIGNALS_COUNT];
    unsigned open;
    void (*cb)(void *arg, int signum);
    void *arg;
};

static void on_signal(uv_signal_t *h, int signum)
{
    struct signals *s = h->data;
    s->cb(s->arg, signum);
}

struct signals *signals_new(struct loop *l, void (*cb)(void *arg, int signum), void *arg)
{
    static const int numbers[SIGNALS_COUNT] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
    struct signals *s = xcalloc(1, sizeof *s);
    s->cb = cb;
    s->arg = arg;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* The write fails instead, with a name and an errno in the log. */
    for (unsigned i = 0; i < SIGNALS_COUNT; i++) {
        uv_signal_init(loop_uv(l), &s->handles[i]);
        s->handles[i].data = s;
        uv_signal_start(&s->handles[i], on_signal, numbers[i]);
    }
    s->open = SIGNALS_COUNT;
    return s;
}

static void on_closed(uv_handle_t *h)
{
    struct signals *s = h->data;
    if (--s->open == 0) {
        free(s);
    }
}

void signals_free(struct signals *s)
{
    if (s != NULL) {
        for (unsigned i = 0; i < SIGNALS_COUNT; i++) {
            uv_close((uv_handle_t *)&s->handles[i], on_closed);
        }
    }
}
