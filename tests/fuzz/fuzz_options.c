/* Any text as a configuration, and as words of a command line. */
#include <stdlib.h>

#include "cluster/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *load(void *ctx, const char *from, const char *name, char **ret_path,
                        struct buf *ret_text)
{
    if (from != NULL) {
        return "no includes";
    }
    *ret_path = xstrndup(name, strlen(name));
    buf_append_slice(ret_text, *(const struct slice *)ctx);
    return NULL;
}

static void open_and_close(int argc, char **argv, const struct conf_options *source)
{
    struct options *o = NULL;
    struct buf error = BUF_EMPTY;
    int rv = options_open(argc, argv, source, &o, &error);
    if ((rv == 0) != (error.len == 0) || (rv == 0) != (o != NULL)) {
        abort();
    }
    if (o != NULL && options_action(o) == OPTIONS_RUN) {
        const struct node_options *n = options_node(o);
        if (n->port < -1 || n->port == 0 || n->port > 65535 || n->host == NULL ||
            n->max_payload > n->max_pending || n->ping_interval_ms <= 0 || n->ping_max <= 0 ||
            n->max_control_line <= 0 || n->write_deadline_ms <= 0 || n->lame_duck_grace_ms < 0) {
            abort();
        }
    }
    options_free(o);
    buf_close(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of(data, size);
    struct conf_options source = {&text, load, NULL};
    char *config[] = {"weir", "-c", "x", NULL};
    open_and_close(3, config, &source);

    char *words = xslicedup(text);
    char *argv[17] = {"weir"};
    int argc = 1;
    for (char *rest, *word = strtok_r(words, " \n", &rest); word != NULL && argc < 16;
         word = strtok_r(NULL, " \n", &rest)) {
        argv[argc++] = word;
    }
    open_and_close(argc, argv, &source);
    free(words);
    return 0;
}
