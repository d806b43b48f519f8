#include "cluster/uv_address.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "storage/base/err.h"

static int resolve(const char *host, int port, struct sockaddr_storage *ret_addr)
{
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int rv = getaddrinfo(host[0] == '\0' ? "0.0.0.0" : host, service, &hints, &found);
    if (rv != 0 || found == NULL) {
        errno = EADDRNOTAVAIL;
        return ERR_IO;
    }
    memcpy(ret_addr, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

int uv_address_listen(uv_loop_t *loop, uv_tcp_t *listener, const char *host, int port, int backlog,
                      uv_connection_cb cb, void *arg, int *ret_port)
{
    struct sockaddr_storage addr;
    if (resolve(host, port, &addr) != 0) {
        return ERR_IO;
    }
    int rv = uv_tcp_init(loop, listener);
    if (rv != 0) {
        errno = -rv;
        return ERR_IO;
    }
    listener->data = arg;
    rv = uv_tcp_bind(listener, (struct sockaddr *)&addr, 0);
    if (rv == 0) {
        rv = uv_listen((uv_stream_t *)listener, backlog, cb);
    }
    int len = sizeof addr;
    if (rv == 0) {
        rv = uv_tcp_getsockname(listener, (struct sockaddr *)&addr, &len);
    }
    if (rv != 0) {
        uv_close((uv_handle_t *)listener, NULL);
        errno = -rv;
        return ERR_IO;
    }
    *ret_port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                                 : ((struct sockaddr_in *)&addr)->sin_port);
    return 0;
}
