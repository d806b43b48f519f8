/* Entries of a stream's log out of a script. */
#ifndef TESTS_FUZZ_STREAM_SCRIPT_H
#define TESTS_FUZZ_STREAM_SCRIPT_H
#include "broker/consumer.h"
#include "broker/stream.h"
#include "tests/fuzz/fuzz.h"

/* Begin an entry in @b and put an op or two into it, for entry_end. False if it delivers messages
 * to a consumer as no planner would. */
bool script_entry(struct reader *r, struct entry_builder *b, uint64_t index);
#endif
