/* Listening on a host and port. */
#ifndef CLUSTER_UV_ADDRESS_H
#define CLUSTER_UV_ADDRESS_H
#include <uv.h>

/* Bind @listener to @host (a literal address, or a name that is looked up, or empty for all) and
 * @port (0: any free one) and listen; `data` becomes @arg. Returns 0 and the port bound, or ERR_IO
 * with errno set and the handle closed or never opened. */
int uv_address_listen(uv_loop_t *loop, uv_tcp_t *listener, const char *host, int port, int backlog,
                      uv_connection_cb cb, void *arg, int *ret_port);
#endif
