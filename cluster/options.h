/* Flags and configuration become a node's options.
 *
 * Defaults first, the configuration file over them, the command line over both. Every value is
 * checked here: what is wrong with a file is said with its position, `file:line:column: sentence`,
 * one line for each fault. A key that nats-server has and weir has not yet is refused; one that
 * changes nothing here leaves a note that the node logs. Nothing is dropped in silence.
 *
 * Files and the environment come through callbacks, so that tests need neither. */
#ifndef CLUSTER_OPTIONS_H
#define CLUSTER_OPTIONS_H
#include "broker/conf.h"
#include "cluster/node_options.h"
#include "storage/base/buf.h"

struct options;

/* What the command line asks for. */
enum options_action {
    OPTIONS_RUN,
    OPTIONS_TEST, /* Configuration and flags are right; say so. */
    OPTIONS_SIGNAL,
    OPTIONS_VERSION,
    OPTIONS_HELP,
    OPTIONS_HELP_TLS,
};

/* Read @argv, and the configuration it names, through @source: its `load` is called with a NULL
 * @from for the file of `-c`. @argv and @source must outlive the options, for reloads.
 *
 * Returns 0; or ERR_INVALID with what goes to stderr, lines and all, in @error. */
int options_open(int argc, char **argv, const struct conf_options *source,
                 struct options **ret_options, struct buf *error);
void options_free(struct options *o); /* NULL is fine. */

enum options_action options_action(const struct options *o);
/* The argument of `--signal`, for OPTIONS_SIGNAL. */
const char *options_signal(const struct options *o);
/* What the node is started with. Its `reload` reads the configuration again. */
struct node_options *options_node(struct options *o);
/* Lines for stderr on things that are accepted but look like mistakes; empty without any. */
struct slice options_warnings(const struct options *o);

/* Start logging as configured. Returns 0, or ERR_IO with errno. */
int options_open_log(const struct options *o);

/* Usage, for `--help` and for stderr after a bad flag. */
const char *options_usage(void);

/* The callbacks over files and getenv. An include is relative to the file it stands in. */
const struct conf_options *options_source_files(void);
#endif
