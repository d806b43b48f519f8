/* Configuration files and the environment, for options_open. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/options.h"

/* @name as seen from the folder of @from. */
static char *join(const char *from, const char *name)
{
    const char *slash = from == NULL ? NULL : strrchr(from, '/');
    if (name[0] == '/' || slash == NULL) {
        return xstrndup(name, strlen(name));
    }
    struct buf path = BUF_EMPTY;
    buf_append(&path, from, (size_t)(slash + 1 - from));
    buf_append_str(&path, name);
    buf_append_u8(&path, 0);
    return (char *)path.ptr;
}

static const char *why(int error)
{
    switch (error) {
    case ENOENT:
        return "no such file or directory";
    case EISDIR:
        return "is a directory";
    case EACCES:
        return "permission denied";
    default:
        return strerror(error);
    }
}

static const char *load(void *ctx, const char *from, const char *name, char **ret_path,
                        struct buf *ret_text)
{
    (void)ctx;
    char *path = join(from, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        free(path);
        return why(error);
    }
    const char *problem = NULL;
    while (problem == NULL) {
        size_t room = CONF_BYTES_MAX + 1 - ret_text->len;
        uint8_t *at = buf_reserve(ret_text, room < 65536 ? room : 65536);
        ssize_t n = read(fd, at, room < 65536 ? room : 65536);
        if (n < 0) {
            problem = why(errno);
        } else if (n == 0) {
            break;
        } else {
            ret_text->len += (size_t)n;
            problem = ret_text->len > CONF_BYTES_MAX ? "it is larger than 4 MiB" : NULL;
        }
    }
    close(fd);
    if (problem != NULL) {
        free(path);
        return problem;
    }
    *ret_path = path;
    return NULL;
}

static const char *env(void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

const struct conf_options *options_source_files(void)
{
    static const struct conf_options source = {NULL, load, env};
    return &source;
}
