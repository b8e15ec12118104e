/* What a layer does to a token before and after its memory, see ../../../titans_ts/nn/fused.py: unit vectors of a convolved
   stream, and the gated norm of what was read, forward and backward. Row by row, with nothing in between to memory. */

#include <stdlib.h>
#include <string.h>

#include "rows.h"

/* What ../units.py passes, eight bytes a field. A stream [B, before + T, C] and taps [before + 1, C] make T rows of C / K
   vectors, of length one before channel `bounded` and shorter than one from there on. `first` to `last` - 1 are the samples to take. */
struct units {
    int64_t samples, tokens, channels, before, width, bounded, first, last;
    const real *stream, *taps;
    int64_t stream_sample; /* stride */
    real *units;
    int64_t units_sample, units_row;
    /* backward: gradients of `parts` results, C / parts channels each, and of the stream's last rows */
    int64_t parts;
    const real *d_units[4];
    int64_t d_units_sample[4], d_units_row[4];
    const real *d_last;
    real *d_before, *d_new, *d_taps; /* [B, before, C], rows of [B, T, C], and a sum to add to */
    int64_t d_new_sample, d_new_row;
};

/* Rows between two additions to a sum over all of them: a float added to a long sum loses more than one to a short one. */
#define RUN 256

static void flush(int64_t n, real *part, real *sum) {
    for (int64_t i = 0; i < n; i++) sum[i] += part[i];
    memset(part, 0, n * sizeof(real));
}

/* y = the row of the stream that was filtered */
static void filter(const struct units *a, const real *stream, real *y) {
    const int64_t C = a->channels;
    for (int64_t c = 0; c < C; c++) y[c] = stream[c] * a->taps[c];
    for (int64_t k = 1; k <= a->before; k++)
        for (int64_t c = 0; c < C; c++) y[c] += stream[k * C + c] * a->taps[k * C + c];
}

int titans_units(const struct units *a) {
    const int64_t C = a->channels, K = a->width;
    for (int64_t b = a->first; b < a->last; b++)
        for (int64_t t = 0; t < a->tokens; t++) {
            real *y = a->units + b * a->units_sample + t * a->units_row;
            filter(a, a->stream + b * a->stream_sample + t * C, y);
            squash(C, y, 1);
            for (int64_t c = 0; c < C; c += K) {
                const real scale = 1 / length_of(K, y + c, c >= a->bounded);
                for (int64_t i = 0; i < K; i++) y[c + i] *= scale;
            }
        }
    return 0;
}

int titans_units_backward(const struct units *a) {
    const int64_t C = a->channels, K = a->width, n = a->before, T = a->tokens, part = C / a->parts;
    real *const space = malloc(((n + T) * C + 3 * C + (n + 1) * C) * sizeof(real));
    if (!space) return 1;
    real *const d_stream = space, *const y = d_stream + (n + T) * C, *const sigma = y + C, *const d = sigma + C;
    real *const d_taps = d + C;
    memset(d_taps, 0, (n + 1) * C * sizeof(real));
    for (int64_t b = a->first; b < a->last; b++) {
        const real *stream = a->stream + b * a->stream_sample;
        memset(d_stream, 0, T * C * sizeof(real));
        memcpy(d_stream + T * C, a->d_last + b * n * C, n * C * sizeof(real));
        for (int64_t t = 0; t < T; t++, stream += C) {
            filter(a, stream, y);
            memcpy(sigma, y, C * sizeof(real));
            squash(C, sigma, 0);
            for (int64_t p = 0; p < a->parts; p++)
                memcpy(d + p * part, a->d_units[p] + b * a->d_units_sample[p] + t * a->d_units_row[p], part * sizeof(real));
            for (int64_t c = 0; c < C; c++) y[c] *= sigma[c];
            for (int64_t c = 0; c < C; c += K) {
                const real length = length_of(K, y + c, c >= a->bounded), scale = 1 / length;
                const real along = length > (real)1e-12 ? inner(K, y + c, d + c) * scale * scale : 0;
                for (int64_t i = c; i < c + K; i++) d[i] = (d[i] - along * y[i]) * scale;
            }
            for (int64_t c = 0; c < C; c++) d[c] *= sigma[c] + y[c] * (1 - sigma[c]);
            for (int64_t k = 0; k <= n; k++) {
                real *const to = d_stream + (t + k) * C, *const d_tap = d_taps + k * C;
                const real *const tap = a->taps + k * C, *const row = stream + k * C;
                for (int64_t c = 0; c < C; c++) {
                    to[c] += tap[c] * d[c];
                    d_tap[c] += row[c] * d[c];
                }
            }
            if (t % RUN == RUN - 1 || t == T - 1) flush((n + 1) * C, d_taps, a->d_taps);
        }
        memcpy(a->d_before + b * n * C, d_stream, n * C * sizeof(real));
        for (int64_t t = 0; t < T; t++)
            memcpy(a->d_new + b * a->d_new_sample + t * a->d_new_row, d_stream + (n + t) * C, C * sizeof(real));
    }
    free(space);
    return 0;
}

/* Rows `first` to `last` - 1 of y and gate [rows, D], in heads of width K; weight [K]. Contiguous. `open`: the gate is
   twice a sigmoid, which is one at zero; else SiLU. */
struct gated {
    int64_t rows, width, head, open, first, last;
    const real *y, *gate, *weight;
    real *out;
    const real *d_out;
    real *d_y, *d_gate, *d_weight; /* the last a sum to add to */
};

int titans_gated_norm(const struct gated *a) {
    const int64_t D = a->width, K = a->head;
    for (int64_t r = a->first; r < a->last; r++) {
        const real *y = a->y + r * D;
        real *out = a->out + r * D;
        memcpy(out, a->gate + r * D, D * sizeof(real));
        squash(D, out, !a->open);
        for (int64_t h = 0; h < D; h += K) {
            const real scale = (a->open ? 2 : 1) / root(inner(K, y + h, y + h) / K + (real)1e-6);
            for (int64_t i = 0; i < K; i++) out[h + i] *= y[h + i] * scale * a->weight[i];
        }
    }
    return 0;
}

int titans_gated_norm_backward(const struct gated *a) {
    const int64_t D = a->width, K = a->head;
    real *const sigma = malloc((D + 2 * K) * sizeof(real)), *const d = sigma + D, *const d_weight = d + K;
    if (!sigma) return 1;
    memset(d_weight, 0, K * sizeof(real));
    for (int64_t r = a->first; r < a->last; r++) {
        memcpy(sigma, a->gate + r * D, D * sizeof(real));
        squash(D, sigma, 0);
        for (int64_t h = 0; h < D; h += K) {
            const real *y = a->y + r * D + h, *gate = a->gate + r * D + h, *d_out = a->d_out + r * D + h;
            real *d_y = a->d_y + r * D + h, *d_gate = a->d_gate + r * D + h, *s = sigma + h;
            const real scale = 1 / root(inner(K, y, y) / K + (real)1e-6);
            for (int64_t i = 0; i < K; i++) {
                const real passed = a->open ? 2 * s[i] : gate[i] * s[i], normed = y[i] * scale;
                /* SiLU' = sigma + SiLU (1 - sigma) */
                const real slope = (a->open ? 0 : s[i]) + passed * (1 - s[i]);
                d_gate[i] = slope * normed * a->weight[i] * d_out[i];
                d[i] = passed * d_out[i];
                d_weight[i] += d[i] * normed;
                d[i] *= a->weight[i];
            }
            const real along = inner(K, d, y) * scale * scale / K;
            for (int64_t i = 0; i < K; i++) d_y[i] = (d[i] - along * y[i]) * scale;
        }
        if (r % RUN == RUN - 1 || r == a->last - 1) flush(K, d_weight, a->d_weight);
    }
    free(sigma);
    return 0;
}
