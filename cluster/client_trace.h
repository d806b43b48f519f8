/* The protocol in the log, for `-V`: one line for each operation and one for its payload.
 *
 *   127.0.0.1:4444 - cid:5 - <<- [PUB foo 5]
 *   127.0.0.1:4444 - cid:5 - <<- MSG_PAYLOAD: ["hello"] */
#ifndef CLUSTER_CLIENT_TRACE_H
#define CLUSTER_CLIENT_TRACE_H
#include "storage/base/slice.h"

/* Log a whole operation as it went over the wire, without secrets of CONNECT. @arrow is "<<-" for
 * what came in and "->>" for what goes out. Only worth calling while LOG_LEVEL_TRC is on. */
void client_trace(const char *who, const char *arrow, struct slice op);
#endif
