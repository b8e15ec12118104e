/* Passes over rows of any length at any address. */

#ifndef TITANS_ROWS_H
#define TITANS_ROWS_H

#include <string.h>

#include "products.h"

typedef real loose __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

static inline real inner(int64_t n, const real *x, const real *y) {
    vec sum = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) sum += *(const loose *)(x + i) * *(const loose *)(y + i);
    real rest = total(sum);
    for (; i < n; i++) rest += x[i] * y[i];
    return rest;
}

INLINE real root(real x) { return sizeof(real) == 4 ? sqrtf(x) : sqrt(x); }

INLINE vec squashed(vec z, int silu) {
    const vec s = sigmoid(z);
    return silu ? (vec)(z * s) : s;
}

/* What a vector is divided by to have length one: its length, or 1e-12 if that is shorter. Or, if `bounded`, to be
   shorter than one and in the order of its length. */
static inline real length_of(int64_t K, const real *x, int bounded) {
    const real length = root(inner(K, x, x) + bounded);
    return length > (real)1e-12 || length != length ? length : (real)1e-12;
}

/* x_i = sigmoid(x_i) or SiLU(x_i), in place */
static inline void squash(int64_t n, real *x, int silu) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) *(loose *)(x + i) = squashed(*(const loose *)(x + i), silu);
    if (i == n) return;
    vec rest = {0};
    memcpy(&rest, x + i, (n - i) * sizeof(real));
    rest = squashed(rest, silu);
    memcpy(x + i, &rest, (n - i) * sizeof(real));
}

#endif
