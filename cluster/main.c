#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cluster/memory.h"
#include "cluster/node.h"
#include "cluster/options.h"
#include "cluster/process.h"
#include "cluster/recover.h"

static int run(struct options *o)
{
    struct node_options *node_options = options_node(o);
    struct slice warnings = options_warnings(o);
    if (options_open_log(o) != 0) {
        fprintf(stderr, "nats-server: error opening file: open %s: %s\n", node_options->log_file,
                strerror(errno));
        return 1;
    }
    fprintf(stderr, "%.*s", SLICE_ARG(warnings));
    struct node *node = node_start(node_options);
    int status = node_run(node);
    node_free(node);
    return status;
}

static int act(struct options *o)
{
    switch (options_action(o)) {
    case OPTIONS_VERSION:
        printf("nats-server: v%s\n", NODE_VERSION);
        return 0;
    case OPTIONS_HELP:
        fputs(options_usage(), stdout);
        return 0;
    case OPTIONS_HELP_TLS:
        puts("weir does not have TLS yet");
        return 0;
    case OPTIONS_TEST:
        fprintf(stderr, "nats-server: configuration file %s is valid\n",
                options_node(o)->config_path);
        return 0;
    case OPTIONS_SIGNAL:
        return process_signal(options_signal(o));
    default:
        return run(o);
    }
}

int main(int argc, char **argv)
{
    struct buf error = BUF_EMPTY;
    struct options *o = NULL;
    int status = 1;
    memory_tune();
    if (argc > 1 && strcmp(argv[1], "recover") == 0) {
        return recover_main(argc - 2, argv + 2);
    }
    if (options_open(argc, argv, options_source_files(), &o, &error) == 0) {
        status = act(o);
    } else {
        fprintf(stderr, "%.*s", SLICE_ARG(buf_slice(&error)));
    }
    options_free(o);
    buf_close(&error);
    return status;
}
