/* The manners of the process: pid file, ports file, `--signal`. */
#ifndef CLUSTER_PROCESS_H
#define CLUSTER_PROCESS_H

struct node_context;

/* The pid in decimal, without a newline. Returns 0 or ERR_IO with errno. */
int process_write_pid(const char *path);

/* `<dir>/<program>_<pid>.ports`: URLs of the listeners as JSON on one line. Returns 0 or ERR_IO. */
int process_write_ports(const struct node_context *ctx);
void process_remove_ports(const struct node_context *ctx);

/* `--signal command[=pid or file]`: send a signal to another server. Returns the exit status and
 * says on stderr what went wrong. */
int process_signal(const char *arg);
#endif
