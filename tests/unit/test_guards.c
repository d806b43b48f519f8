/* Each guard, with and without it: the property holds, and it does not. A guard of HOST_GUARD_MAP
 * without a schedule here fails. tests/sim/README.md has the table. */
#include <criterion/criterion.h>

#include "tests/unit/guard_schedules.h"

static void check_guard(enum host_guard guard)
{
    unsigned n = 0;
    for (size_t i = 0; i < guard_checks_count; i++) {
        const struct guard_check *c = &guard_checks[i];
        if (c->guard != guard) {
            continue;
        }
        n++;
        enum puppet_outcome with = puppet_play(c->schedule, c->others_off);
        enum puppet_outcome without =
            puppet_play(c->schedule, c->others_off | UINT64_C(1) << guard);
        cr_expect_eq(with, PUPPET_HOLDS, "schedule %zu: with the guard: %d", i, (int)with);
        cr_expect(without == PUPPET_BROKEN || (c->may_die && without == PUPPET_DIED),
                  "schedule %zu: without the guard: %d", i, (int)without);
    }
    cr_expect_gt(n, 0, "no schedule");
}

/* guards/G1, guards/G2 … */
#define GUARD_TEST(name)                                                                           \
    Test(guards, name)                                                                             \
    {                                                                                              \
        check_guard(HOST_GUARD_##name);                                                            \
    }
HOST_GUARD_MAP(GUARD_TEST)
