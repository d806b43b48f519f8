/* Any bytes as a configuration, its own included file and its environment. */
#include <stdlib.h>

#include "broker/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    struct slice text;
    unsigned loads;
    char env[64];
};

static const char *load(void *ctx, const char *from, const char *name, char **ret_path,
                        struct buf *ret_text)
{
    struct input *in = ctx;
    (void)from;
    if (in->loads++ > 20) {
        return "enough";
    }
    *ret_path = xstrndup(name, strlen(name));
    buf_append(ret_text, in->text.ptr, in->text.len / 2);
    return NULL;
}

static const char *env(void *ctx, const char *name)
{
    return name[0] < 'n' ? ((struct input *)ctx)->env : NULL;
}

static size_t walk(const struct conf_value *v)
{
    size_t count = 1;
    for (const struct conf_value *c = conf_first(v); c != NULL; c = conf_next(c)) {
        count += walk(c);
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {slice_of(data, size), 0, ""};
    memcpy(in.env, data, size < sizeof in.env - 1 ? size : sizeof in.env - 1);
    struct conf_options options = {&in, load, env};
    struct conf *c = NULL;
    struct buf error = BUF_EMPTY;
    if (conf_parse(in.text, "fuzz", &options, &c, &error) == 0) {
        if (error.len > 0 || walk(conf_root(c)) > CONF_VALUES_MAX) {
            abort();
        }
        conf_free(c);
    } else if (error.len == 0) {
        abort();
    }
    buf_close(&error);
    return 0;
}
