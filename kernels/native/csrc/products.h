/* Small matrix products and elementwise passes on rows, written for whatever vectors the compiler offers.

   Matrices are row-major and aligned; a row takes a whole number of vectors, the rest of it is zero. */

#ifndef TITANS_PRODUCTS_H
#define TITANS_PRODUCTS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef DOUBLE
typedef double real;
typedef int64_t integer;
#else
typedef float real;
typedef int32_t integer;
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif

enum { LANES = BYTES / sizeof(real) };
typedef real vec __attribute__((vector_size(BYTES), may_alias));
typedef integer ivec __attribute__((vector_size(BYTES), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE int padded(int n) { return (n + LANES - 1) / LANES * LANES; }
INLINE vec all(real x) { return x - (vec){0}; }
INLINE vec *at(real *x) { return (vec *)x; }
INLINE const vec *of(const real *x) { return (const vec *)x; }
INLINE vec choose(ivec where, vec x, vec y) { return (vec)((where & (ivec)x) | (~where & (ivec)y)); }
INLINE real total(vec x) {
    real sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

/* What is known to be zero or not needed, for square matrices of a chunk's tokens. */
enum shape {
    FULL,
    LOWER_RESULT, /* only columns up to the row are needed */
    LOWER_LEFT,   /* the left factor is zero right of its diagonal */
    UPPER_LEFT    /* the left factor is zero left of its diagonal */
};

/* R rows and V vectors of c (+)= scale o (a b): sums stay in registers. */
INLINE void tile(const int R, const int V, int K, const real *restrict a, ptrdiff_t a_row, ptrdiff_t a_column,
                 const real *restrict b, ptrdiff_t b_row, real *restrict c, ptrdiff_t c_row,
                 const real *restrict scale, int add) {
    vec sum[16][4];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sum[r][v] = (vec){0};
#pragma GCC unroll 1
    for (int k = 0; k < K; k++) {
        vec right[4];
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) right[v] = of(b)[v];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const vec left = all(a[r * a_row]);
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
        }
        a += a_column;
        b += b_row;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        vec *out = at(c + r * c_row);
        const vec s = all(scale ? scale[r] : 1);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) out[v] = add ? out[v] + s * sum[r][v] : s * sum[r][v];
    }
}

#define TILES(R, V)                                                                                              \
    for (; i + (R) <= M; i += (R)) {                                                                             \
        if (shape == LOWER_RESULT && column >= i + (R)) continue;                                                \
        const int first = shape == UPPER_LEFT ? i : 0;                                                           \
        const int last = shape == LOWER_LEFT && i + (R) < K ? i + (R) : K;                                       \
        tile(R, V, last - first, a + i * a_row + first * a_column, a_row, a_column, b + first * b_row + column,  \
             b_row, c + i * c_row + column, c_row, scale ? scale + i : 0, add);                                  \
    }
#define PANELS(R, V)                                                                                             \
    for (; column + (V) * LANES <= N; column += (V) * LANES) {                                                   \
        int i = 0;                                                                                               \
        TILES(R, V) TILES(4, V) TILES(2, V) TILES(1, V)                                                          \
    }

/* c = scale o (a b), or added to c: a is M x K with any strides, b K x N, N a whole number of vectors; a row's
   scale, where there is one. */
static inline void multiply(int M, int N, int K, const real *restrict a, ptrdiff_t a_row, ptrdiff_t a_column,
                     const real *restrict b, ptrdiff_t b_row, real *restrict c, ptrdiff_t c_row,
                     const real *restrict scale, int add, enum shape shape) {
    int column = 0;
#if REGISTERS == 32
    PANELS(6, 4)
    PANELS(12, 2)
    PANELS(16, 1)
#else
    PANELS(6, 2)
    PANELS(8, 1)
#endif
}

/* out[j, i] = x[i, j], rows x columns, with zeros up to a whole number of vectors in each row of out. */
static inline void transpose(int rows, int columns, const real *restrict x, ptrdiff_t x_row, real *restrict out,
                      ptrdiff_t out_row) {
    for (int i = 0; i < rows; i += LANES)
        for (int j = 0; j < columns; j += LANES) {
            vec part[LANES];
            for (int r = 0; r < LANES; r++)
                part[r] = i + r < rows ? *of(x + (i + r) * x_row + j) : (vec){0};
#if defined(__clang__)
            for (int r = 0; r < LANES && j + r < columns; r++) {
                vec row;
                for (int s = 0; s < LANES; s++) row[s] = part[s][r];
                *at(out + (j + r) * out_row + i) = row;
            }
#else
            /* log2(LANES) times: interleave the first half of the rows with the second */
            ivec low, high;
            for (int s = 0; s < LANES; s++) {
                low[s] = s / 2 + s % 2 * LANES;
                high[s] = low[s] + LANES / 2;
            }
#pragma GCC unroll 8
            for (int step = 1; step < LANES; step *= 2) {
                vec next[LANES];
#pragma GCC unroll 16
                for (int r = 0; r < LANES / 2; r++) {
                    next[2 * r] = __builtin_shuffle(part[r], part[r + LANES / 2], low);
                    next[2 * r + 1] = __builtin_shuffle(part[r], part[r + LANES / 2], high);
                }
#pragma GCC unroll 16
                for (int r = 0; r < LANES; r++) part[r] = next[r];
            }
            for (int r = 0; r < LANES && j + r < columns; r++) *at(out + (j + r) * out_row + i) = part[r];
#endif
        }
}

/* 1 / (1 + exp(-x)), to the last digit or two. */
INLINE vec sigmoid(vec x) {
#ifdef DOUBLE
    const real top = 700, round = 6755399441055744.0, high = 0.693145751953125, low = 1.42860682030941723e-6;
    enum { MANTISSA = 52, BIAS = 1023, TERMS = 13 };
#else
    const real top = 87, round = 12582912.0f, high = 0.693145751953125f, low = 1.42860682030941723e-6f;
    enum { MANTISSA = 23, BIAS = 127, TERMS = 7 };
#endif
    x = choose(x > top, all(top), x);
    x = choose(x < -top, all(-top), x);
    const vec shifted = x * (real)-1.4426950408889634 + round; /* -x = n log 2 + r */
    const vec n = shifted - round;
    const vec r = -x - n * high - n * low;
    vec e = all(1);
#pragma GCC unroll 16
    for (int i = TERMS; i > 0; i--) e = e * r * ((real)1 / i) + 1;
    const ivec power = ((ivec)shifted << MANTISSA) + ((integer)BIAS << MANTISSA);
    return 1 / (1 + e * (vec)power);
}

#endif
