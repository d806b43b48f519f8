/* `weir recover`: a majority of a cluster's disks is lost for good, and one node goes on alone. See
 * docs/recover.md. Offline: nothing of a node runs. */
#ifndef CLUSTER_RECOVER_H
#define CLUSTER_RECOVER_H

/* @args: those behind the word. Prints what is found, what may be lost and what was done. Returns
 * the status to exit with: 0; 1: refused or failed, with a sentence on standard error. */
int recover_main(int args_count, char **args);
#endif
