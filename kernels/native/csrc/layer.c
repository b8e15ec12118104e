/* One token of every stream through the whole layer of ../../../titans_ts/nn/memory.py: projections, gates, memory,
   output norm and gate. A stream's step is a few thousand operations, less than what calling them one by one costs. */

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "rows.h"

/* What ../layer.py passes, eight bytes a field. All is contiguous but states, which have a stride of the batch each.
   D = H K; rows of `in_proj` are the output's gate, queries, keys and values, and gates, whose logits begin where `lr`,
   `forget` and `momentum` say, or nowhere at -1. */
struct layer {
    int64_t width, heads, batch, taps, lr, forget, momentum, depth, chunk, to_initial, online, open, bounded;
    const real *x, *in_proj, *gate_bias, *filter, *conv, *norm, *out_proj;
    real *conv_after, *y, *surprise;
    const int64_t *position;
    int64_t widths[DEPTH + 1];
    const real *initial[DEPTH], *weights[DEPTH], *momenta[DEPTH], *anchor[DEPTH];
    int64_t batches[3][DEPTH];
    real *weights_after[DEPTH], *momenta_after[DEPTH], *anchor_after[DEPTH];
};

/* Vectors of C channels whose new inputs are in x, in place: causal convolution, SiLU, division to length
   one, from channel `bounded` on to less than one. `filter` has rows of `stride` taps; the last inputs move on. */
static void units(const struct layer *a, int C, int bounded, int stride, int K, const real *conv, real *after, real *x) {
    const int before = a->taps - 1;
    memcpy(after, conv + C, (before > 0 ? before - 1 : 0) * C * sizeof(real));
    if (before) memcpy(after + (before - 1) * C, x, C * sizeof(real));
    for (int c = 0; c < C; c++) {
        real sum = a->filter[before * stride + c] * x[c];
        for (int t = 0; t < before; t++) sum += a->filter[t * stride + c] * conv[t * C + c];
        x[c] = sum;
    }
    squash(C, x, 1);
    for (int c = 0; c < C; c += K) {
        const real length = length_of(K, x + c, c >= bounded);
        for (int i = 0; i < K; i++) x[c + i] /= length;
    }
}

/* The layer's output from what was read, y [D]: norm of every head, gate, projection. */
static void answer(const struct layer *a, int K, real *y, real *gate, real *out) {
    const int D = a->width;
    squash(D, gate, !a->open);
    for (int h = 0; h < D; h += K) {
        const real scale = (a->open ? 2 : 1) / root(inner(K, y + h, y + h) / K + (real)1e-6);
        for (int i = 0; i < K; i++) y[h + i] *= scale * a->norm[i] * gate[h + i];
    }
    for (int i = 0; i < D; i++) out[i] = inner(D, a->out_proj + i * D, y);
}

/* Write a token and read the memory after it; not 0 if there is no room to work in. */
int titans_step(const struct layer *a) {
    const int D = a->width, H = a->heads, K = D / H, B = a->batch;
    const int gates = (a->lr >= 0) + (a->forget >= 0) + (a->momentum >= 0), rows = 4 * D + gates * H;
    const int each = rows + LANES, used = B * (each + 3 * H + D) + LANES;
    real *const space = malloc(used * sizeof(real));
    if (!space) return 1;
    memset(space, 0, used * sizeof(real));
    real *const gate_values = space + B * each, *const y = gate_values + 3 * B * H;
    for (int b = 0; b < B; b++) {
        real *const x = space + b * each, *const logits = x + 4 * D;
        for (int r = 0; r < rows; r++) x[r] = inner(D, a->in_proj + r * D, a->x + b * D);
        const int64_t conv = (int64_t)b * (a->taps - 1) * 3 * D;
        units(a, 3 * D, a->bounded ? 2 * D : 3 * D, 3 * D, K, a->conv + conv, a->conv_after + conv, x + D);
        for (int i = 0; i < gates * H; i++) logits[i] += a->gate_bias[i];
        squash(gates * H, logits, 0);
        for (int h = 0; h < H; h++) {
            const real momentum = a->momentum < 0 ? 0 : logits[a->momentum + h];
            const real lr = a->lr < 0 ? 0 : logits[a->lr + h] / (a->online ? 2 : 2 * a->chunk);
            gate_values[(0 * B + b) * H + h] = a->forget < 0 ? 0 : logits[a->forget + h];
            gate_values[(1 * B + b) * H + h] = momentum;
            gate_values[(2 * B + b) * H + h] = lr - lr * momentum;
        }
    }
    struct call c = {.depth = a->depth, .chunk = a->chunk, .batch = B, .heads = H, .length = 1, .every = 1};
    c.to_initial = a->to_initial, c.online = a->online, c.last = B * H;
    c.position = a->position, c.y = y, c.surprise = a->surprise;
#define COPY(field) memcpy(c.field, a->field, sizeof c.field)
    COPY(widths), COPY(initial), COPY(weights), COPY(momenta), COPY(anchor), COPY(batches);
    COPY(weights_after), COPY(momenta_after), COPY(anchor_after);
    for (int i = Q; i <= V; i++) {
        c.tokens[i] = space + (1 + i) * D;
        c.strides[i][0] = each, c.strides[i][2] = K;
    }
    for (int i = FORGET; i <= LR; i++) {
        c.tokens[i] = gate_values + (i - FORGET) * B * H;
        c.strides[i][0] = H, c.strides[i][2] = 1;
    }
    if (a->forget < 0) c.tokens[FORGET] = NULL;
    if (a->momentum < 0) c.tokens[MOMENTUM] = NULL;
    const int failed = titans_forward(&c);
    for (int b = 0; b < B && !failed; b++) answer(a, K, y + b * D, space + b * each, a->y + b * D);
    free(space);
    return failed;
}

/* Read the memory `weights` without writing; `conv` are the last inputs of the queries alone. */
int titans_look(const struct layer *a) {
    const int D = a->width, H = a->heads, K = D / H, B = a->batch;
    int widest = K;
    for (int l = 1; l <= a->depth; l++)
        if (a->widths[l] > widest) widest = a->widths[l];
    const int used = 3 * D + 2 * widest + 3 * LANES;
    real *const space = malloc(used * sizeof(real));
    if (!space) return 1;
    memset(space, 0, used * sizeof(real));
    real *const q = space + D, *const y = q + D + LANES;
    for (int b = 0; b < B; b++) {
        for (int r = 0; r < 2 * D; r++) space[r] = inner(D, a->in_proj + r * D, a->x + b * D);
        const int64_t conv = (int64_t)b * (a->taps - 1) * D;
        units(a, D, D, 3 * D, K, a->conv + conv, a->conv_after + conv, q);
        for (int h = 0; h < H; h++) {
            real *in = y + D, *out = in + widest + LANES;
            memcpy(in, q + h * K, K * sizeof(real));
            for (int l = 0; l < a->depth; l++) {
                const int rows = a->widths[l], columns = a->widths[l + 1];
                const real *w = a->weights[l] + b * a->batches[0][l] + (int64_t)h * rows * columns;
                if (l) squash(rows, in, 1);
                memset(out, 0, columns * sizeof(real));
                for (int i = 0; i < rows; i++)
                    for (int j = 0; j < columns; j++) out[j] += in[i] * w[i * columns + j];
                real *swap = in;
                in = out, out = swap;
            }
            memcpy(y + h * K, in, K * sizeof(real));
        }
        answer(a, K, y, space, a->y + b * D);
    }
    free(space);
    return 0;
}

/* What ../layer.py passes, eight bytes a field: a whole block of ../../../titans_ts/nn/blocks.py around a MAC. Contiguous;
   `start` has strides of the batch. x and y of `layer` are not used. */
struct block {
    struct layer layer;
    int64_t segment, persistent, hidden, sum; /* tokens, tokens, numbers; whether attention and memory are added */
    const real *x, *mixer_norm, *tokens, *qkv_proj, *out_proj, *cosines, *sines, *gate, *ff_norm, *up, *up_bias, *down,
        *down_bias;
    const real *read_conv, *pairs;
    const int64_t *place;
    real *read_conv_after, *pairs_after, *y;
    const real *start[DEPTH];
    int64_t start_batches[DEPTH];
};

/* Root-mean-square norm of x [D], times a weight. */
static void normalise(int D, const real *x, const real *weight, real *out) {
    const real scale = 1 / root(inner(D, x, x) / D + (real)1e-6);
    for (int i = 0; i < D; i++) out[i] = x[i] * scale * weight[i];
}

static void apply(int rows, int columns, const real *matrix, const real *x, real *out) {
    for (int r = 0; r < rows; r++) out[r] = inner(columns, matrix + (int64_t)r * columns, x);
}

/* Rotary positions, see `rotate` in attention.py. */
static void rotate(int d, const real *cosines, const real *sines, const real *x, real *out) {
    for (int i = 0; i < d; i++) out[i] = x[i] * cosines[i] + x[(i + d / 2) % d] * sines[i];
}

/* One token's attention to persistent tokens, to what was recalled in its segment so far, and to the segment's tokens;
   `pairs` [2, H, 2 segment, d] gets the new keys and values. `lasting` are keys and values
   of the persistent tokens, `space` has room for 7 D and a score for everything in sight. */
static void attend(const struct block *a, const real *x, const real *recalled, int place, real *pairs,
                   const real *lasting, real *space, real *out) {
    const int D = a->layer.width, H = a->layer.heads, d = D / H, N = a->persistent, rows = 2 * a->segment;
    const int seen = 2 * (place + 1);
    real *const new = space, *const joined = new + 6 * D, *const scores = joined + D;
    apply(3 * D, D, a->qkv_proj, recalled, new);
    apply(3 * D, D, a->qkv_proj, x, new + 3 * D);
    const real *cosines = a->cosines + place * 3 * d, *sines = a->sines + place * 3 * d;
    for (int h = 0; h < H; h++) {
        real q[d];
        rotate(d, cosines, sines, new + 3 * D + h * d, q);
        real *const keys = pairs + (int64_t)h * rows * d, *const values = keys + (int64_t)H * rows * d;
        for (int i = 0; i < 2; i++) { /* the recalled, then the token itself */
            const real *from = new + 3 * D * i + h * d;
            rotate(d, cosines + d, sines + d, from + D, keys + (2 * place + i) * d);
            memcpy(values + (2 * place + i) * d, from + 2 * D, d * sizeof(real));
        }
        real top = -INFINITY, sum = 0;
        for (int i = 0; i < N + seen; i++) {
            const real *key = i < N ? lasting + 2 * i * D + h * d : keys + (i - N) * d;
            scores[i] = inner(d, q, key) / root(d);
            if (!(scores[i] <= top)) top = scores[i];
        }
        for (int i = 0; i < N + seen; i++) sum += scores[i] = exp(scores[i] - top);
        memset(joined + h * d, 0, d * sizeof(real));
        for (int i = 0; i < N + seen; i++) {
            const real *value = i < N ? lasting + (2 * i + 1) * D + h * d : values + (i - N) * d;
            for (int j = 0; j < d; j++) joined[h * d + j] += scores[i] / sum * value[j];
        }
    }
    apply(D, D, a->out_proj, joined, out);
}

/* One token of every stream through a block; not 0 if there is no room to work in. */
int titans_block(const struct block *a) {
    const int D = a->layer.width, B = a->layer.batch, F = a->hidden, N = a->persistent;
    const int64_t pairs = 4 * a->segment * D;
    real *const space = malloc((4 * B * D + 2 * D + F + 7 * D + 2 * N * D + N + 2 * a->segment) * sizeof(real));
    if (!space) return 1;
    real *const s = space, *const h = s + B * D, *const y = h + B * D, *const r = y + B * D;
    real *const one = r + B * D, *const two = one + D, *const hidden = two + D, *const lasting = hidden + F;
    real *const rest = lasting + 2 * N * D;
    for (int n = 0; n < N; n++) apply(2 * D, D, a->qkv_proj + D * D, a->tokens + n * D, lasting + 2 * n * D);
    for (int b = 0; b < B; b++) normalise(D, a->x + b * D, a->mixer_norm, s + b * D);

    struct layer recall = a->layer, memory = a->layer;
    recall.x = s, recall.y = h, recall.conv = a->read_conv, recall.conv_after = a->read_conv_after;
    memcpy(recall.weights, a->start, sizeof recall.weights);
    memcpy(recall.batches[0], a->start_batches, sizeof recall.batches[0]);
    memory.x = y, memory.y = r;
    int failed = titans_look(&recall);
    if (!failed) {
        memcpy(a->pairs_after, a->pairs, B * pairs * sizeof(real));
        for (int b = 0; b < B; b++)
            attend(a, s + b * D, h + b * D, a->place[b], a->pairs_after + b * pairs, lasting, rest, y + b * D);
        for (int i = 0; a->sum && i < B * D; i++) y[i] += s[i];
        failed = titans_step(&memory);
    }
    for (int b = 0; b < B && !failed; b++) {
        normalise(D, y + b * D, a->gate, one);
        normalise(D, r + b * D, a->gate + D, two);
        if (!a->sum) squash(D, two, 1);
        for (int i = 0; i < D; i++) one[i] = a->x[b * D + i] + (a->sum ? one[i] + two[i] : one[i] * two[i]);
        normalise(D, one, a->ff_norm, two);
        apply(F, D, a->up, two, hidden);
        for (int i = 0; i < F; i++) { /* GELU */
            const double z = hidden[i] + a->up_bias[i];
            hidden[i] = 0.5 * z * (1 + erf(z * 0.70710678118654752));
        }
        apply(D, F, a->down, hidden, two);
        for (int i = 0; i < D; i++) a->y[b * D + i] = one[i] + two[i] + a->down_bias[i];
    }
    free(space);
    return failed;
}
