#include "tests/sim/sim_planted.h"

#include <string.h>

static const struct sim_planted_bug bugs[] = {{"none", SIM_CHAOS, ""},
#define SIM_PLANTED_BUG(name, text, scenario, oracles) {text, scenario, oracles},
                                              SIM_PLANTED_MAP(SIM_PLANTED_BUG)
#undef SIM_PLANTED_BUG
};

const struct sim_planted_bug *sim_planted_bug(enum sim_planted bug)
{
    return &bugs[bug];
}

enum sim_planted sim_planted_find(const char *text)
{
    for (unsigned i = 1; i < SIM_PLANTED_COUNT; i++) {
        if (strcmp(bugs[i].text, text) == 0) {
            return (enum sim_planted)i;
        }
    }
    return SIM_PLANTED_NONE;
}

bool sim_planted_is_named(enum sim_planted bug, const char *oracle)
{
    size_t len = strlen(oracle);
    for (const char *p = bugs[bug].oracles; len > 0 && (p = strstr(p, oracle)) != NULL; p++) {
        bool begins = p == bugs[bug].oracles || p[-1] == ' ';
        if (begins && (p[len] == ' ' || p[len] == 0)) {
            return true;
        }
    }
    return false;
}
