#include <criterion/criterion.h>

#include "cluster/js_reserve.h"

#define MIB (UINT64_C(1) << 20)

Test(reserve, it_is_a_share_of_the_disk_within_bounds)
{
    cr_assert_eq(js_reserve_of(-1, 20480 * MIB), 1024 * MIB);
    cr_assert_eq(js_reserve_of(-1, 2048 * MIB), 256 * MIB);
    cr_assert_eq(js_reserve_of(-1, 400 * MIB), 100 * MIB);
    cr_assert_eq(js_reserve_of(-1, 1000000 * MIB), 2048 * MIB);
    cr_assert_eq(js_reserve_of(0, 1000000 * MIB), 0);
    cr_assert_eq(js_reserve_of((int64_t)(7 * MIB), 1000000 * MIB), 7 * MIB);
}
