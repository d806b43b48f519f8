#include "cluster/process.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "cluster/node.h"
#include "cluster/node_options.h"
#include "storage/base/buf.h"
#include "storage/base/err.h"

#define SIGNAL_FILE_BYTES_MAX 64

static int write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return ERR_IO;
    }
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    return close(fd) == 0 && n == (ssize_t)len ? 0 : ERR_IO;
}

int process_write_pid(const char *path)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", (long)getpid());
    return write_file(path, text, 0600);
}

static void add_url(json_t *urls, const char *scheme, const char *ip, int port)
{
    char url[128];
    bool is_v6 = strchr(ip, ':') != NULL;
    snprintf(url, sizeof url, "%s://%s%s%s:%d", scheme, is_v6 ? "[" : "", ip, is_v6 ? "]" : "",
             port);
    json_array_append_new(urls, json_string(url));
}

/* The URLs of a listener: one, or one for each address when it is bound to all. IPv4 comes first,
 * and of it loopback. */
static json_t *listener_urls(const char *scheme, const char *host, int port)
{
    json_t *urls = json_array();
    if (strcmp(host, "0.0.0.0") != 0 && strcmp(host, "::") != 0 && host[0] != '\0') {
        add_url(urls, scheme, host, port);
        return urls;
    }
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0) {
        add_url(urls, scheme, "127.0.0.1", port);
        return urls;
    }
    for (int pass = 0; pass < 3; pass++) {
        for (const struct ifaddrs *it = all; it != NULL; it = it->ifa_next) {
            char ip[INET6_ADDRSTRLEN] = "";
            if (it->ifa_addr == NULL) {
                continue;
            }
            if (it->ifa_addr->sa_family == AF_INET && pass < 2) {
                inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)it->ifa_addr)->sin_addr, ip,
                          sizeof ip);
                if ((strncmp(ip, "127.", 4) == 0) != (pass == 0)) {
                    continue;
                }
            } else if (it->ifa_addr->sa_family == AF_INET6 && pass == 2) {
                inet_ntop(AF_INET6, &((struct sockaddr_in6 *)(void *)it->ifa_addr)->sin6_addr, ip,
                          sizeof ip);
                if (strncmp(ip, "fe80:", 5) == 0) {
                    continue;
                }
            }
            if (ip[0] != '\0') {
                add_url(urls, scheme, ip, port);
            }
        }
    }
    freeifaddrs(all);
    return urls;
}

static void ports_path(const struct node_context *ctx, char *path, size_t path_size)
{
    snprintf(path, path_size, "%s/%s_%ld.ports", ctx->options->ports_file_dir,
             ctx->options->program, (long)getpid());
}

int process_write_ports(const struct node_context *ctx)
{
    const struct node_options *o = ctx->options;
    json_t *j = json_object();
    json_object_set_new(j, "nats", listener_urls("nats", o->host, ctx->client_port));
    if (ctx->http_port > 0) {
        json_object_set_new(j, "monitoring", listener_urls("http", o->http_host, ctx->http_port));
    }
    if (ctx->cluster_port > 0) {
        json_object_set_new(j, "cluster",
                            listener_urls("nats", o->cluster_host, ctx->cluster_port));
    }
    char *text = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    char path[4096], tmp[4200];
    ports_path(ctx, path, sizeof path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    /* Renamed into place: who waits for the file never reads half of it. */
    int rv = write_file(tmp, text, 0644);
    if (rv == 0 && rename(tmp, path) != 0) {
        rv = ERR_IO;
    }
    free(text);
    return rv;
}

void process_remove_ports(const struct node_context *ctx)
{
    char path[4096];
    ports_path(ctx, path, sizeof path);
    unlink(path);
}

/* ---- --signal ---- */

static int signal_number(const char *word)
{
    static const struct {
        const char *word;
        int signum;
    } words[] = {{"stop", SIGKILL},   {"quit", SIGINT}, {"term", SIGTERM},
                 {"reopen", SIGUSR1}, {"ldm", SIGUSR2}, {"reload", SIGHUP}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].word, word) == 0) {
            return words[i].signum;
        }
    }
    return 0;
}

static long parse_pid(const char *s)
{
    char *end;
    errno = 0;
    long pid = strtol(s, &end, 10);
    return errno != 0 || end == s || *end != '\0' || pid <= 0 ? -1 : pid;
}

/* Whether process @pid runs the command nats-server or weir, other than this one. */
static bool is_server(long pid)
{
    char path[64], name[64] = "";
    snprintf(path, sizeof path, "/proc/%ld/comm", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return false;
    }
    bool is_read = fgets(name, sizeof name, f) != NULL;
    fclose(f);
    name[strcspn(name, "\n")] = '\0';
    return is_read && pid != getpid() &&
           (strcmp(name, "nats-server") == 0 || strcmp(name, "weir") == 0);
}

/* Pids that match @prefix (a number cut short), or all servers. */
static unsigned find_pids(const char *prefix, long *pids, unsigned pids_max)
{
    unsigned count = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        long pid = isdigit((unsigned char)e->d_name[0]) ? parse_pid(e->d_name) : -1;
        if (pid > 0 && count < pids_max && is_server(pid) &&
            strncmp(e->d_name, prefix, strlen(prefix)) == 0) {
            pids[count++] = pid;
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    return count;
}

static int fail(const char *program, const char *text)
{
    fprintf(stderr, "%s: %s\n", program, text);
    return 1;
}

static int send_signals(const long *pids, unsigned count, int signum)
{
    int status = 0;
    for (unsigned i = 0; i < count; i++) {
        if (kill((pid_t)pids[i], signum) != 0) {
            fprintf(stderr, "nats-server: signal pid %ld: %s\n", pids[i], strerror(errno));
            status = 1;
        }
    }
    return status;
}

int process_signal(const char *arg)
{
    const char *program = "nats-server";
    char word[32];
    const char *eq = strchr(arg, '=');
    size_t len = eq == NULL ? strlen(arg) : (size_t)(eq - arg);
    snprintf(word, sizeof word, "%.*s", (int)len, arg);
    int signum = signal_number(word);
    char text[512];
    if (signum == 0 || len >= sizeof word || (eq != NULL && strchr(eq + 1, '=') != NULL)) {
        snprintf(text, sizeof text, "unknown signal \"%.*s\"", (int)len, arg);
        return fail(program, text);
    }
    long pids[256];
    if (eq != NULL && eq[1] != '\0' && eq[strlen(eq) - 1] == '*') {
        snprintf(text, sizeof text, "%.*s", (int)strlen(eq) - 2, eq + 1);
        unsigned count = find_pids(text, pids, 256);
        return count == 0 ? fail(program, "no nats-server processes running")
                          : send_signals(pids, count, signum);
    }
    if (eq != NULL && eq[1] != '\0') {
        snprintf(text, sizeof text, "%s", eq + 1);
        char content[SIGNAL_FILE_BYTES_MAX] = "";
        FILE *f = fopen(text, "re");
        if (f != NULL) {
            size_t n = fread(content, 1, sizeof content - 1, f);
            content[n] = '\0';
            fclose(f);
            snprintf(text, sizeof text, "%s", content);
        }
        pids[0] = parse_pid(text);
        if (pids[0] < 0) {
            char why[640];
            snprintf(why, sizeof why, "invalid pid: %s", text);
            return fail(program, why);
        }
        return send_signals(pids, 1, signum);
    }
    unsigned count = find_pids("", pids, 256);
    if (count == 1) {
        return send_signals(pids, 1, signum);
    }
    if (count == 0) {
        return fail(program, "no nats-server processes running");
    }
    struct buf all = BUF_EMPTY;
    buf_append_str(&all, "multiple nats-server processes running:");
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&all, "\n%ld", pids[i]);
    }
    buf_append_u8(&all, 0);
    int status = fail(program, (const char *)all.ptr);
    buf_close(&all);
    return status;
}
