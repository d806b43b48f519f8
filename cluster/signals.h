/* Unix signals, delivered in the loop. */
#ifndef CLUSTER_SIGNALS_H
#define CLUSTER_SIGNALS_H

struct loop;
struct signals;

/* Call @cb(@arg, signum) for INT, TERM, HUP, USR1 and USR2; PIPE is ignored. */
struct signals *signals_new(struct loop *l, void (*cb)(void *arg, int signum), void *arg);
void signals_free(struct signals *s); /* NULL is fine. */
#endif
