/* A seeded generator (xoshiro256**). Each part of the simulator has its own stream, so that one
 * more draw in one place does not reshuffle all others. */
#ifndef TESTS_SIM_RNG_H
#define TESTS_SIM_RNG_H
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct sim_rng {
    uint64_t s[4];
};

/* Scramble @v well: a finalizer (splitmix64). */
static inline uint64_t sim_mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15u;
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    return v ^ (v >> 31);
}

/* Fold @v into the running hash @h; the order matters. */
static inline uint64_t sim_fold(uint64_t h, uint64_t v)
{
    return sim_mix(h * 31 + v);
}

/* Begin the stream number @stream of @seed. */
static inline void sim_rng_init(struct sim_rng *r, uint64_t seed, uint64_t stream)
{
    uint64_t v = sim_fold(sim_mix(seed), stream);
    for (int i = 0; i < 4; i++) {
        v = sim_mix(v + (uint64_t)i);
        r->s[i] = v;
    }
}

static inline uint64_t sim_rng_u64(struct sim_rng *r)
{
    uint64_t *s = r->s;
    uint64_t x = s[1] * 5;
    uint64_t result = ((x << 7) | (x >> 57)) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return result;
}

/* 0 to @n - 1. */
static inline uint64_t sim_rng_below(struct sim_rng *r, uint64_t n)
{
    assert(n > 0);
    return sim_rng_u64(r) % n;
}

/* @min to @max, both included. */
static inline int64_t sim_rng_range(struct sim_rng *r, int64_t min, int64_t max)
{
    assert(min <= max);
    return min + (int64_t)sim_rng_below(r, (uint64_t)(max - min) + 1);
}

/* True once in @n. */
static inline bool sim_rng_one_in(struct sim_rng *r, uint64_t n)
{
    return sim_rng_below(r, n) == 0;
}
#endif
