/* Before the first input: what is logged goes nowhere, but for what ends the process. */
#include "storage/base/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct log_options options = {.level_max = LOG_LEVEL_ERR, .path = "/dev/null"};
    return log_open(&options);
}
