/* The neural memory of one sample and head after the other, chunk by chunk, forward and backward.

   ../../README.md derives what is computed and names the symbols; ../../chunked/chunk.py and backward.py are the same
   with one call a product.
   Here a memory stays in the processor's cache from its first chunk to its last, and between two products
   nothing is written that the next does not read. Absent tokens are skipped, so that no chunk has gaps. */

#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define TINY ((real)(sizeof(real) == 4 ? 1.17549435e-38 : 2.2250738585072014e-308))

/* A chunk's tokens and everything between. Layer l maps width d[l] to d[l + 1]; p are padded widths. */
struct work {
    int depth, most, square, size, state, d[DEPTH + 1], p[DEPTH + 1];
    int at[DEPTH + 1], turned[DEPTH + 1]; /* where a layer begins in weights, and in their transpose */
    int momentum, to_initial, online, steps; /* online: b, or 0; steps: whether layers make a part of a step each */
    int *token; /* the present tokens */
    /* weights */
    real *initial, *initial_turned, *anchor, *anchor_turned, *memory, *surprise, *turn;
    real *memory_turned, *surprise_turned, *d_memory, *d_surprise, *d_memory_next, *d_surprise_next, *d_anchor;
    real *d_initial, *d_first_anchor, *d_last_anchor, *boundaries;
    /* tokens */
    real *x[DEPTH], *z[DEPTH], *sigma[DEPTH], *e[DEPTH], *u[DEPTH], *v, *norm;
    real *written[DEPTH]; /* x times its layer's part of the step; x itself unless `steps` */
    real *apart, *before, *part[DEPTH]; /* online: products of inputs, times C of the token before; parts of the steps */
    real *y[DEPTH + 1], *read_z[DEPTH], *read_sigma[DEPTH], *overlap[DEPTH], *mixed[DEPTH];
    real *dx[DEPTH], *d_written[DEPTH], *de[DEPTH], *dz[DEPTH], *g, *g_next, *scaled, *turned_rows, *d_mixed;
    /* shares: C [L, L]; what begins and ends in M_t (beta, carry), and the rows they are made of */
    real *C, *ls, *lm, *dC, *d_ls, *ends, *last, *d_ends, *d_last;
    real *beta, *carry, *kept, *keep, *eta, *theta, *d_beta, *d_carry, *d_theta;
    real d_kept; /* of kept[L] */
};

static real *room(char *space, size_t *used, size_t numbers) {
    real *start = (real *)(space + *used);
    *used += (numbers * sizeof(real) + 63) / 64 * 64;
    return start;
}

/* Give every array its place in `space`; return how many bytes that takes. */
static size_t lay_out(struct work *w, const struct call *c, int backward, char *space) {
    size_t used = (sizeof *w + 63) / 64 * 64;
    const int depth = w->depth = c->depth;
    const int most = w->most = c->length < c->chunk ? c->length : c->chunk;
    const int square = w->square = padded(most);
    int size = 0, turned = 0, widest = square;
    for (int l = 0; l <= depth; l++) {
        w->d[l] = c->widths[l];
        w->p[l] = padded(w->d[l]);
        if (w->p[l] > widest) widest = w->p[l];
    }
    for (int l = 0; l < depth; l++) {
        w->at[l] = size;
        w->turned[l] = turned;
        size += w->d[l] * w->p[l + 1];
        turned += w->d[l + 1] * w->p[l];
    }
    w->size = size;
    w->state = size * (c->tokens[MOMENTUM] ? 2 : 1); /* the momentum lies behind the memory */
    w->momentum = c->tokens[MOMENTUM] != NULL;
    w->to_initial = c->to_initial;
    w->online = c->online ? c->chunk : 0;
    w->steps = w->online && depth > 1;
#define ROWS(name, width) w->name = room(space, &used, (size_t)most * (width))
#define ONE(name, numbers) w->name = room(space, &used, numbers)
    w->token = (int *)room(space, &used, c->length * sizeof(int) / sizeof(real) + 1);
    ONE(initial, size), ONE(anchor, size), ONE(memory, 2 * size);
    w->surprise = w->memory + size;
    ONE(anchor_turned, turned);
    ONE(turn, (size_t)widest * widest);
    ROWS(v, w->p[depth]), ONE(norm, square), ROWS(C, square), ROWS(scaled, widest);
    ONE(ls, (size_t)(most + 1) * square), ONE(lm, (size_t)(most + 1) * square);
    ONE(beta, most + 1), ONE(carry, most + 1), ONE(kept, most + 1), ONE(keep, most), ONE(eta, most), ONE(theta, square);
    ONE(last, square), ONE(ends, square), ONE(d_theta, square);
    for (int l = 0; l < depth; l++) {
        ROWS(x[l], w->p[l]), ROWS(z[l], w->p[l + 1]), ROWS(sigma[l], w->p[l + 1]);
        ROWS(e[l], w->p[l + 1]), ROWS(u[l], w->p[l + 1]);
        ROWS(y[l], w->p[l]), ROWS(read_z[l], w->p[l + 1]), ROWS(read_sigma[l], w->p[l + 1]);
        if (backward || l == 0) ROWS(overlap[l], square), ROWS(mixed[l], square);
        else w->overlap[l] = w->overlap[0], w->mixed[l] = w->mixed[0];
    }
    for (int l = 0; l < depth; l++)
        if (w->steps) ROWS(written[l], w->p[l]);
        else w->written[l] = w->x[l];
    if (w->online) ROWS(apart, square), ROWS(before, square);
    for (int l = 0; w->steps && l < depth; l++) ONE(part[l], most);
    if (backward) {
        ONE(initial_turned, turned), ONE(memory_turned, turned), ONE(surprise_turned, turned);
        ONE(d_memory, size), ONE(d_surprise, size), ONE(d_memory_next, size), ONE(d_surprise_next, size);
        ONE(d_anchor, size), ONE(d_initial, size), ONE(d_first_anchor, size), ONE(d_last_anchor, size);
        ONE(boundaries, (size_t)w->state * c->every);
        for (int l = 0; l < depth; l++) {
            ROWS(dx[l], w->p[l]), ROWS(de[l], w->p[l + 1]), ROWS(dz[l], w->p[l + 1]);
            if (w->steps) ROWS(d_written[l], w->p[l]);
            else w->d_written[l] = w->dx[l];
        }
        ROWS(g, widest), ROWS(g_next, widest), ROWS(d_mixed, square), ONE(turned_rows, (size_t)widest * square);
        ROWS(dC, square), ONE(d_ls, square), ONE(d_ends, square), ONE(d_last, square);
        ONE(d_beta, most + 1), ONE(d_carry, most + 1);
    }
    return used;
}

/* Weights without padding to weights with, and back. */
static void load(const struct work *w, const real *const *layers, const int64_t *offsets, real *out) {
    for (int l = 0; l < w->depth; l++) {
        const int rows = w->d[l], n = w->d[l + 1], p = w->p[l + 1];
        const real *from = layers[l] + offsets[l];
        if (n == p) memcpy(out + w->at[l], from, (size_t)rows * n * sizeof(real));
        else
            for (int i = 0; i < rows; i++) {
                real *to = out + w->at[l] + i * p;
                memcpy(to, from + i * n, n * sizeof(real));
                memset(to + n, 0, (p - n) * sizeof(real)); /* a NaN of the memory before is there too */
            }
    }
}

static void store(const struct work *w, const real *x, real *const *layers, int64_t memory, int add) {
    for (int l = 0; l < w->depth; l++) {
        const int rows = w->d[l], n = w->d[l + 1], p = w->p[l + 1];
        real *to = layers[l] + memory * rows * n;
        if (n == p && !add) memcpy(to, x + w->at[l], (size_t)rows * n * sizeof(real));
        else
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < n; j++) {
                    const real value = x[w->at[l] + i * p + j];
                    to[i * n + j] = add ? to[i * n + j] + value : value;
                }
    }
}

static void turn(const struct work *w, const real *x, real *out, int first) {
    for (int l = first; l < w->depth; l++)
        transpose(w->d[l], w->d[l + 1], x + w->at[l], w->p[l + 1], out + w->turned[l], w->p[l]);
}

/* x = a x + b y, numbers of n whole vectors */
INLINE void blend(size_t n, real *x, real a, const real *y, real b) {
    for (size_t i = 0; i < n; i += LANES) *at(x + i) = a * *of(x + i) + b * *of(y + i);
}

INLINE real dot(size_t n, const real *x, const real *y) {
    vec sum = {0};
    for (size_t i = 0; i < n; i += LANES) sum += *of(x + i) * *of(y + i);
    return total(sum);
}

static void rows_in(const real *x, const int64_t *strides, int64_t sample, int64_t head,
                    const int *token, int L, int d, real *out, int p) {
    x += sample * strides[0] + head * strides[2];
    for (int t = 0; t < L; t++) memcpy(out + t * p, x + token[t] * strides[1], d * sizeof(real));
}

static void rows_out(const struct call *c, const real *rows, int p, int64_t sample, int64_t head, const int *token,
                     int L, int d, real *x) {
    for (int t = 0; t < L; t++)
        memcpy(x + ((sample * c->length + token[t]) * c->heads + head) * d, rows + t * p, d * sizeof(real));
}

static void gate_in(const real *x, const int64_t *strides, int64_t sample, int64_t head, const int *token, int L,
                    real *out) {
    x += sample * strides[0] + head * strides[2];
    for (int t = 0; t < L; t++) out[t] = x[token[t] * strides[1]];
}

static void gate_out(const struct call *c, const real *values, int64_t sample, int64_t head, const int *token, int L,
                     real *x) {
    for (int t = 0; t < L; t++) x[(sample * c->length + token[t]) * c->heads + head] = values[t];
}

/* Keys, values and gates of a chunk's L tokens. */
static void take(struct work *w, const struct call *c, int64_t b, int64_t h, const int *token, int L) {
    rows_in(c->tokens[K], c->strides[K], b, h, token, L, w->d[0], w->x[0], w->p[0]);
    rows_in(c->tokens[V], c->strides[V], b, h, token, L, w->d[w->depth], w->v, w->p[w->depth]);
    for (int t = 0; t < L; t++) w->keep[t] = 1, w->eta[t] = 0;
    if (c->tokens[FORGET]) {
        gate_in(c->tokens[FORGET], c->strides[FORGET], b, h, token, L, w->keep);
        for (int t = 0; t < L; t++) w->keep[t] = 1 - w->keep[t];
    }
    if (c->tokens[MOMENTUM]) gate_in(c->tokens[MOMENTUM], c->strides[MOMENTUM], b, h, token, L, w->eta);
    memset(w->theta, 0, w->square * sizeof(real));
    gate_in(c->tokens[LR], c->strides[LR], b, h, token, L, w->theta);
}

/* The shares of a chunk, see ../../chunked/coefficients.py; row t stands after t tokens. */
static void share(struct work *w, int L) {
    const int P = w->square;
    memset(w->ls, 0, (size_t)(L + 1) * P * sizeof(real));
    memset(w->lm, 0, P * sizeof(real));
    w->beta[0] = 1, w->carry[0] = 0, w->kept[0] = 1;
    for (int t = 0; t < L; t++) {
        const real eta = w->eta[t], keep = w->keep[t];
        real *ls = w->ls + (t + 1) * P, *lm = w->lm + (t + 1) * P, *C = w->C + t * P;
        for (int j = 0; j < t; j += LANES) *at(ls + j) = eta * *of(ls - P + j);
        ls[t] = 1;
        for (int j = 0; j < P; j += LANES) {
            const vec row = *at(lm + j) = keep * *of(lm - P + j) + *of(ls + j);
            *at(C + j) = -row * *of(w->theta + j);
        }
        w->kept[t + 1] = eta * w->kept[t];
        w->beta[t + 1] = keep * w->beta[t];
        w->carry[t + 1] = keep * w->carry[t] + w->kept[t + 1];
    }
    for (int j = 0; j < P; j += LANES) {
        *at(w->last + j) = *of(w->C + (L - 1) * P + j);
        *at(w->ends + j) = -*of(w->ls + L * P + j) * *of(w->theta + j);
    }
}

INLINE void activate(int n, const real *z, real *sigma, real *x) {
    for (int i = 0; i < n; i += LANES) {
        const vec s = *at(sigma + i) = sigmoid(*of(z + i));
        *at(x + i) = *of(z + i) * s;
    }
}

/* SiLU'(z) from sigma(z) and x = SiLU(z) */
INLINE vec slope(vec sigma, vec x) { return sigma + x * (1 - sigma); }

/* rows o a share each */
INLINE void scale_rows(int L, int p, const real *rows, const real *share, real *out) {
    for (int t = 0; t < L; t++)
        for (int j = 0; j < p; j += LANES) *at(out + t * p + j) = share[t] * *of(rows + t * p + j);
}

INLINE real at_least(real bound, real x) { return x > bound ? x : bound; }

/* Rows of a triangular system that are solved one by one; what they owe to other rows is one product. */
#define STRIP 8

/* e_t = 2 (e_t + sum over i < t of before[t, i] e_i), in place */
static void solve(int L, int p, const real *before, int P, real *e) {
    for (int first = 0; first < L; first += STRIP) {
        const int n = L - first < STRIP ? L - first : STRIP;
        multiply(n, p, first, before + first * P, P, 1, e, p, e + first * p, p, NULL, 1, FULL);
        for (int t = first; t < first + n; t++)
            for (int j = 0; j < p; j += LANES) {
                vec sum = *of(e + t * p + j);
                for (int i = first; i < t; i++) sum += before[t * P + i] * *of(e + i * p + j);
                *at(e + t * p + j) = 2 * sum;
            }
    }
}

/* The same system transposed: g_t = 2 (d_t + sum over i > t of before[i, t] g_i). What is left in d has no meaning. */
static void solve_transposed(int L, int p, const real *before, int P, real *d, real *g) {
    for (int last = L; last > 0;) {
        const int first = (last - 1) / STRIP * STRIP;
        for (int t = last - 1; t >= first; t--)
            for (int j = 0; j < p; j += LANES) {
                vec sum = *of(d + t * p + j);
                for (int i = t + 1; i < last; i++) sum += before[i * P + t] * *of(g + i * p + j);
                *at(g + t * p + j) = 2 * sum;
            }
        multiply(first, p, last - first, before + first * P, 1, P, g + first * p, p, d, p, NULL, 1, FULL);
        last = first;
    }
}

/* Online: errors of the output layer at the memory before each token. What the tokens before have written is in
   them, so that they are found one after the other: e_t = 2 (z_t + sum over i < t of before[t, i] e_i). */
static void online_errors(struct work *w, int L, int started) {
    const int l = w->depth - 1, P = w->square, p = w->p[l + 1], d = w->d[l], q = w->p[l];
    real *e = w->e[l];
    if (w->steps) {
        for (int t = 0; t < L; t++) w->part[l][t] = 1 / at_least(1, dot(q, w->x[l] + t * q, w->x[l] + t * q));
        scale_rows(L, q, w->x[l], w->part[l], w->written[l]);
    }
    for (int i = 0; i < L * p; i += LANES) *at(e + i) = -*of(w->v + i);
    if (w->to_initial)
        multiply(L, p, d, w->x[l], q, 1, w->initial + w->at[l], p, e, p, NULL, 1, FULL);
    if (started) {
        multiply(L, p, d, w->x[l], q, 1, w->memory + w->at[l], p, e, p, w->beta, 1, FULL);
        if (w->momentum) multiply(L, p, d, w->x[l], q, 1, w->surprise + w->at[l], p, e, p, w->carry, 1, FULL);
    }
    transpose(L, d, w->written[l], q, w->turn, P);
    multiply(L, P, d, w->x[l], q, 1, w->turn, P, w->apart, P, NULL, 0, LOWER_RESULT);
    for (int t = 0; t < L; t++) {
        real *before = w->before + t * P;
        const real *apart = w->apart + t * P, *C = w->C + (t - 1) * P;
        for (int i = 0; i < t; i++) before[i] = apart[i] * C[i];
        for (int i = t; i < P; i++) before[i] = 0;
    }
    solve(L, p, w->before, P, e);
}

/* A hidden layer's part of the step: 1 / b, and less where its error E is longer than the output layer's e. */
static void hidden_steps(struct work *w, int L) {
    const int last = w->depth - 1, r = w->p[w->depth];
    for (int l = 0; l < last; l++) {
        for (int t = 0; t < L; t++) {
            const real *E = w->e[l] + t * w->p[l + 1], *e = w->e[last] + t * r;
            w->part[l][t] = 1 / (w->online * at_least(1, dot(w->p[l + 1], E, E) / at_least(TINY, dot(r, e, e))));
        }
        scale_rows(L, w->p[l], w->x[l], w->part[l], w->written[l]);
    }
}

/* Inputs and errors of every layer. `started`: memory and momentum are not zero. */
static void learn(struct work *w, int L, int started) {
    const int D = w->depth;
    for (int l = 0; l + 1 < D; l++) {
        const int p = w->p[l + 1];
        multiply(L, p, w->d[l], w->x[l], w->p[l], 1, w->anchor + w->at[l], p, w->z[l], p, NULL, 0, FULL);
        activate(L * p, w->z[l], w->sigma[l], w->x[l + 1]);
    }
    const int l = D - 1, r = w->p[D];
    if (w->online) online_errors(w, L, started);
    else {
        multiply(L, r, w->d[l], w->x[l], w->p[l], 1, w->anchor + w->at[l], r, w->z[l], r, NULL, 0, FULL);
        for (int i = 0; i < L * r; i += LANES) *at(w->e[l] + i) = 2 * (*of(w->z[l] + i) - *of(w->v + i));
    }
    turn(w, w->anchor, w->anchor_turned, 1);
    for (int l = D - 1; l > 0; l--) {
        const int p = w->p[l];
        real *u = w->u[l - 1];
        multiply(L, p, w->d[l + 1], w->e[l], w->p[l + 1], 1, w->anchor_turned + w->turned[l], p, u, p, NULL, 0, FULL);
        for (int i = 0; i < L * p; i += LANES)
            *at(w->e[l - 1] + i) = *of(u + i) * slope(*of(w->sigma[l - 1] + i), *of(w->x[l] + i));
    }
    if (w->steps) hidden_steps(w, L);
}

static void measure(struct work *w, int L) {
    for (int t = 0; t < L; t++) {
        real sum = 0;
        for (int l = 0; l < w->depth; l++) {
            const real *x = w->x[l] + t * w->p[l], *e = w->e[l] + t * w->p[l + 1];
            sum += dot(w->p[l], x, x) * dot(w->p[l + 1], e, e);
        }
        w->norm[t] = sizeof(real) == 4 ? sqrtf(sum) : sqrt(sum);
    }
}

/* M_t(q_t) for the queries in y[0]; the result is in y[depth]. `started`: memory and momentum are not zero. */
static void read(struct work *w, int L, int started) {
    const int D = w->depth, P = w->square;
    for (int l = 0; l < D; l++) {
        const int p = w->p[l + 1], d = w->d[l], q = w->p[l];
        real *z = w->read_z[l];
        int add = 0;
        if (w->to_initial)
            multiply(L, p, d, w->y[l], q, 1, w->initial + w->at[l], p, z, p, NULL, 0, FULL), add = 1;
        if (started) {
            multiply(L, p, d, w->y[l], q, 1, w->memory + w->at[l], p, z, p, w->beta + 1, add, FULL), add = 1;
            if (w->momentum)
                multiply(L, p, d, w->y[l], q, 1, w->surprise + w->at[l], p, z, p, w->carry + 1, 1, FULL);
        }
        transpose(L, d, w->written[l], q, w->turn, P);
        multiply(L, P, d, w->y[l], q, 1, w->turn, P, w->overlap[l], P, NULL, 0, LOWER_RESULT);
        for (int t = 0; t < L; t++) {
            vec *mixed = at(w->mixed[l] + t * P);
            const vec *overlap = of(w->overlap[l] + t * P), *C = of(w->C + t * P);
            for (int j = 0; j < P / LANES; j++)
                if (j * LANES <= t) mixed[j] = overlap[j] * C[j];
                else mixed[j] = all(0);
        }
        multiply(L, p, L, w->mixed[l], P, 1, w->e[l], p, z, p, NULL, add, LOWER_LEFT);
        if (l + 1 < D) activate(L * p, z, w->read_sigma[l], w->y[l + 1]);
    }
    w->y[D] = w->read_z[D - 1];
}

/* From the memory and momentum before a chunk to those after it. */
static void write(struct work *w, int L) {
    if (w->momentum) {
        blend(w->size, w->memory, w->beta[L], w->surprise, w->carry[L]);
        for (int i = 0; i < w->size; i += LANES) *at(w->surprise + i) *= w->kept[L];
    } else
        for (int i = 0; i < w->size; i += LANES) *at(w->memory + i) *= w->beta[L];
    for (int l = 0; l < w->depth; l++) {
        const int p = w->p[l + 1], d = w->d[l], q = w->p[l];
        scale_rows(L, p, w->e[l], w->last, w->scaled);
        multiply(d, p, L, w->written[l], 1, q, w->scaled, p, w->memory + w->at[l], p, NULL, 1, FULL);
        if (!w->momentum) continue;
        scale_rows(L, p, w->e[l], w->ends, w->scaled);
        multiply(d, p, L, w->written[l], 1, q, w->scaled, p, w->surprise + w->at[l], p, NULL, 1, FULL);
    }
}

/* The anchor of a chunk that begins at a boundary: the memory. */
static void anchor_here(struct work *w) {
    if (w->to_initial)
        for (int i = 0; i < w->size; i += LANES) *at(w->anchor + i) = *of(w->memory + i) + *of(w->initial + i);
    else memcpy(w->anchor, w->memory, w->size * sizeof(real));
}

/* One sample's and head's way. */
struct walk {
    int64_t sample, head, memory; /* memory: of [B, H] */
    int tokens, chunks, begun;    /* begun: tokens of the first chunk that came before this call */
};

static void begin(struct work *w, const struct call *c, int64_t i, struct walk *walk) {
    walk->sample = i % c->batch, walk->head = i / c->batch; /* heads outermost: M_0 stays in the cache */
    walk->memory = walk->sample * c->heads + walk->head;
    walk->tokens = 0;
    for (int t = 0; t < c->length; t++)
        if (!c->mask || c->mask[walk->sample * c->length + t]) w->token[walk->tokens++] = t;
    walk->begun = c->position[walk->sample];
    walk->chunks = walk->tokens ? (walk->begun + walk->tokens + c->chunk - 1) / c->chunk : 0;
}

/* Where chunk g begins among the present tokens, and how many it has. */
static int piece(const struct call *c, const struct walk *walk, int g, int *start) {
    *start = g ? g * c->chunk - walk->begun : 0;
    const int stop = (g + 1) * c->chunk - walk->begun;
    return (stop < walk->tokens ? stop : walk->tokens) - *start;
}

/* The state before the first chunk; returns whether memory and momentum are other than zero. */
static int at_start(struct work *w, const struct call *c, const struct walk *walk) {
    int64_t offsets[3][DEPTH], own[DEPTH];
    for (int l = 0; l < w->depth; l++) {
        own[l] = walk->head * w->d[l] * w->d[l + 1];
        for (int i = 0; i < 3; i++) offsets[i][l] = walk->sample * c->batches[i][l] + own[l];
    }
    load(w, c->initial, own, w->initial);
    if (!c->weights[0]) {
        memset(w->surprise, 0, w->size * sizeof(real));
        memcpy(w->anchor, w->initial, w->size * sizeof(real));
        if (w->to_initial) memset(w->memory, 0, w->size * sizeof(real));
        else memcpy(w->memory, w->initial, w->size * sizeof(real));
        return !w->to_initial;
    }
    load(w, c->weights, offsets[0], w->memory);
    if (w->to_initial) blend(w->size, w->memory, 1, w->initial, -1);
    load(w, c->anchor, offsets[2], w->anchor);
    if (w->momentum) load(w, c->momenta, offsets[1], w->surprise);
    return 1;
}

static struct work *open_work(const struct call *c, int backward) {
    struct work measured = {0};
    const size_t bytes = lay_out(&measured, c, backward, NULL);
    struct work *w = aligned_alloc(64, bytes);
    if (!w) return NULL;
    memset(w, 0, bytes); /* padding stays zero from here on */
    lay_out(w, c, backward, (char *)w);
    return w;
}

/* Every memory from `first` to `last`; 1 if there is no room to work in. */
int titans_forward(const struct call *c) {
    struct work *w = open_work(c, 0);
    if (!w) return 1;
    for (int64_t i = c->first; i < c->last; i++) {
        struct walk walk;
        begin(w, c, i, &walk);
        int started = at_start(w, c, &walk);
        for (int g = 0; g < walk.chunks; g++) {
            int start;
            const int L = piece(c, &walk, g, &start);
            const int *token = w->token + start;
            if (c->saved && g && g % c->every == 0) {
                real *to = c->saved + (walk.memory * c->room + g / c->every - 1) * w->state;
                memcpy(to, w->memory, w->state * sizeof(real));
            }
            if (g) anchor_here(w);
            take(w, c, walk.sample, walk.head, token, L);
            share(w, L);
            learn(w, L, started);
            measure(w, L);
            gate_out(c, w->norm, walk.sample, walk.head, token, L, c->surprise);
            if (c->tokens[Q]) {
                rows_in(c->tokens[Q], c->strides[Q], walk.sample, walk.head, token, L, w->d[0], w->y[0], w->p[0]);
                read(w, L, started);
                rows_out(c, w->y[w->depth], w->p[w->depth], walk.sample, walk.head, token, L, w->d[w->depth], c->y);
            }
            write(w, L);
            started = 1;
        }
        if (walk.chunks && (walk.begun + walk.tokens) % c->chunk == 0) anchor_here(w);
        store(w, w->anchor, c->anchor_after, walk.memory, 0);
        if (w->to_initial) blend(w->size, w->memory, 1, w->initial, 1);
        store(w, w->memory, c->weights_after, walk.memory, 0);
        if (w->momentum) store(w, w->surprise, c->momenta_after, walk.memory, 0);
    }
    free(w);
    return 0;
}

/* Back through what layer l has from before the chunk, applied to y: from the gradient g of the result. Row t of y was
   multiplied by beta[t] and carry[t]. */
static void start_backward(struct work *w, int L, int started, int l, const real *y, const real *g, real *d_y,
                           const real *beta, const real *carry, real *d_beta, real *d_carry) {
    const int p = w->p[l + 1], d = w->d[l], q = w->p[l], n = w->d[l + 1];
    if (w->to_initial) {
        multiply(d, p, L, y, 1, q, g, p, w->d_initial + w->at[l], p, NULL, 1, FULL);
        multiply(L, q, n, g, p, 1, w->initial_turned + w->turned[l], q, d_y, q, NULL, 1, FULL);
    }
    for (int part = 0; started && part <= w->momentum; part++) {
        const real *weights = part ? w->surprise_turned : w->memory_turned, *shares = part ? carry : beta;
        real *d_weights = part ? w->d_surprise_next : w->d_memory_next, *d_shares = part ? d_carry : d_beta;
        scale_rows(L, p, g, shares, w->scaled);
        multiply(d, p, L, y, 1, q, w->scaled, p, d_weights + w->at[l], p, NULL, 1, FULL);
        multiply(L, q, n, g, p, 1, weights + w->turned[l], q, w->scaled, q, NULL, 0, FULL);
        for (int t = 0; t < L; t++) {
            vec sum = {0};
            for (int j = 0; j < q; j += LANES) {
                const vec through = *of(w->scaled + t * q + j);
                sum += through * *of(y + t * q + j);
                *at(d_y + t * q + j) += shares[t] * through;
            }
            d_shares[t] += total(sum);
        }
    }
}

/* Back through reading: from the gradient of the result in g to those of x, e, the shares and the weights. That of
   the queries is left in g. */
static void read_backward(struct work *w, int L, int started) {
    const int D = w->depth, P = w->square;
    for (int l = D - 1; l >= 0; l--) {
        const int p = w->p[l + 1], d = w->d[l], q = w->p[l], n = w->d[l + 1];
        const real *y = w->y[l];
        real *g = w->g, *d_y = w->g_next;
        transpose(L, n, w->e[l], p, w->turned_rows, P);
        multiply(L, p, L, w->mixed[l], 1, P, g, p, w->de[l], p, NULL, 0, UPPER_LEFT);
        multiply(L, P, n, g, p, 1, w->turned_rows, P, w->d_mixed, P, NULL, 0, LOWER_RESULT);
        for (int t = 0; t < L; t++)
            for (int j = 0; j < P; j += LANES) {
                vec *d_mixed = at(w->d_mixed + t * P + j);
                if (j > t) {
                    *d_mixed = all(0);
                    continue;
                }
                *at(w->dC + t * P + j) += *d_mixed * *of(w->overlap[l] + t * P + j);
                *d_mixed *= *of(w->C + t * P + j);
            }
        multiply(L, q, L, w->d_mixed, 1, P, y, q, w->d_written[l], q, NULL, 0, UPPER_LEFT);
        multiply(L, q, L, w->d_mixed, P, 1, w->written[l], q, d_y, q, NULL, 0, LOWER_LEFT);
        start_backward(w, L, started, l, y, g, d_y, w->beta + 1, w->carry + 1, w->d_beta + 1, w->d_carry + 1);
        if (l)
            for (int i = 0; i < L * q; i += LANES)
                *at(d_y + i) *= slope(*of(w->read_sigma[l - 1] + i), *of(y + i));
        w->g = d_y, w->g_next = g;
    }
}

/* Add what the gradient `d_norm` of the surprise gives to those of x and e. */
static void measure_backward(struct work *w, int L, const real *d_norm) {
    for (int t = 0; t < L; t++) {
        if (!(w->norm[t] > 0)) continue; /* where it is 0 it has a kink: take 0 */
        const real scale = d_norm[t] / w->norm[t];
        for (int l = 0; l < w->depth; l++) {
            const int q = w->p[l], p = w->p[l + 1];
            const real *x = w->x[l] + t * q, *e = w->e[l] + t * p;
            const real of_x = scale * dot(p, e, e), of_e = scale * dot(q, x, x);
            blend(q, w->dx[l] + t * q, 1, x, of_x);
            blend(p, w->de[l] + t * p, 1, e, of_e);
        }
    }
}

/* Back through writing: d_memory and d_surprise are gradients of what the chunk wrote; those of what it found
   are added to d_memory_next and d_surprise_next. */
static void write_backward(struct work *w, int L, int started) {
    for (int part = 0; part <= w->momentum; part++) {
        const real *d_weights = part ? w->d_surprise : w->d_memory, *shares = part ? w->ends : w->last;
        real *d_shares = part ? w->d_ends : w->d_last;
        for (int l = 0; l < w->depth; l++) {
            const int p = w->p[l + 1], d = w->d[l], q = w->p[l], n = w->d[l + 1];
            multiply(L, p, d, w->written[l], q, 1, d_weights + w->at[l], p, w->de[l], p, shares, 1, FULL);
            transpose(d, n, d_weights + w->at[l], p, w->turn, q);
            multiply(L, q, n, w->e[l], p, 1, w->turn, q, w->scaled, q, NULL, 0, FULL);
            for (int t = 0; t < L; t++) {
                vec sum = {0};
                for (int j = 0; j < q; j += LANES) {
                    const vec through = *of(w->scaled + t * q + j);
                    sum += through * *of(w->written[l] + t * q + j);
                    *at(w->d_written[l] + t * q + j) += shares[t] * through;
                }
                d_shares[t] += total(sum);
            }
        }
    }
    if (!started) return;
    const int n = w->size;
    w->d_beta[L] += dot(n, w->d_memory, w->memory);
    blend(n, w->d_memory_next, 1, w->d_memory, w->beta[L]);
    if (!w->momentum) return;
    w->d_carry[L] += dot(n, w->d_memory, w->surprise);
    blend(n, w->d_surprise_next, 1, w->d_memory, w->carry[L]);
    w->d_kept = dot(n, w->d_surprise, w->surprise);
    blend(n, w->d_surprise_next, 1, w->d_surprise, w->kept[L]);
}

/* Back through the errors that were found online, from de to dz and to all that they come from. */
static void online_errors_backward(struct work *w, int L, int started) {
    const int l = w->depth - 1, P = w->square, p = w->p[l + 1], d = w->d[l], q = w->p[l], n = w->d[l + 1];
    real *g = w->dz[l], *dx = w->dx[l];
    solve_transposed(L, p, w->before, P, w->de[l], g);
    transpose(L, n, w->e[l], p, w->turned_rows, P);
    multiply(L, P, n, g, p, 1, w->turned_rows, P, w->d_mixed, P, NULL, 0, LOWER_RESULT);
    for (int t = 0; t < L; t++) {
        real *d_before = w->d_mixed + t * P;
        const real *apart = w->apart + t * P, *C = w->C + (t - 1) * P;
        real *dC = w->dC + (t - 1) * P;
        for (int i = 0; i < t; i++) {
            dC[i] += d_before[i] * apart[i];
            d_before[i] *= C[i];
        }
        for (int i = t; i < P; i++) d_before[i] = 0;
    }
    multiply(L, q, L, w->d_mixed, 1, P, w->x[l], q, w->d_written[l], q, NULL, 1, UPPER_LEFT);
    multiply(L, q, L, w->d_mixed, P, 1, w->written[l], q, dx, q, NULL, 1, LOWER_LEFT);
    start_backward(w, L, started, l, w->x[l], g, dx, w->beta, w->carry, w->d_beta, w->d_carry);
}

/* Back through the hidden layers' parts of the step, to their inputs and to all errors. */
static void hidden_steps_backward(struct work *w, int L) {
    const int last = w->depth - 1, r = w->p[w->depth];
    for (int l = 0; l < last; l++) {
        const int q = w->p[l], p = w->p[l + 1];
        for (int t = 0; t < L; t++) {
            const real *x = w->x[l] + t * q, *d_written = w->d_written[l] + t * q, part = w->part[l][t];
            blend(q, w->dx[l] + t * q, 1, d_written, part);
            const real *E = w->e[l] + t * p, *e = w->e[last] + t * r;
            const real passed = dot(p, E, E), length = dot(r, e, e);
            if (!(passed > length)) continue;
            const real d_log = 2 * part * dot(q, x, d_written);
            blend(r, w->de[last] + t * r, 1, e, d_log / at_least(TINY, length));
            blend(p, w->de[l] + t * p, 1, E, -d_log / passed);
        }
    }
}

/* Back through the output layer's part of the step. */
static void last_step_backward(struct work *w, int L) {
    const int l = w->depth - 1, q = w->p[l];
    for (int t = 0; t < L; t++) {
        const real *x = w->x[l] + t * q, *d_written = w->d_written[l] + t * q, part = w->part[l][t];
        blend(q, w->dx[l] + t * q, 1, d_written, part);
        if (part < 1) blend(q, w->dx[l] + t * q, 1, x, -2 * part * part * dot(q, x, d_written));
    }
}

/* Back through the errors, then through the inputs; gradients of the keys in dx[0], of the values, negative, in
   dz[depth - 1], of the anchor in d_anchor. */
static void learn_backward(struct work *w, int L, int started) {
    const int D = w->depth;
    turn(w, w->anchor, w->anchor_turned, 0);
    if (w->steps) hidden_steps_backward(w, L);
    for (int l = 0; l + 1 < D; l++) {
        const int p = w->p[l + 1], d = w->d[l + 1], r = w->p[l + 2];
        real *de = w->de[l], *dz = w->dz[l];
        for (int i = 0; i < L * p; i += LANES) {
            const vec s = *of(w->sigma[l] + i), x = *of(w->x[l + 1] + i), z = *of(w->z[l] + i), e = *of(de + i);
            /* SiLU'' = s (1 - s) (2 + z (1 - 2 s)), and z s = x */
            *at(dz + i) = s * (1 - s) * (2 + z - 2 * x) * *of(w->u[l] + i) * e;
            *at(w->scaled + i) = e * slope(s, x);
        }
        multiply(L, r, d, w->scaled, p, 1, w->anchor + w->at[l + 1], r, w->de[l + 1], r, NULL, 1, FULL);
        multiply(d, r, L, w->scaled, 1, p, w->e[l + 1], r, w->d_anchor + w->at[l + 1], r, NULL, 0, FULL);
    }
    if (w->online) {
        if (D == 1) memset(w->d_anchor, 0, w->size * sizeof(real));
        online_errors_backward(w, L, started);
    } else
        for (int i = 0; i < L * w->p[D]; i += LANES) *at(w->dz[D - 1] + i) = 2 * *of(w->de[D - 1] + i);
    for (int l = D - 1; l >= 0; l--) {
        const int p = w->p[l + 1], d = w->d[l], q = w->p[l];
        if (l + 1 < D || !w->online) { /* the anchor's layer l made z[l] */
            multiply(d, p, L, w->x[l], 1, q, w->dz[l], p, w->d_anchor + w->at[l], p, NULL, l > 0, FULL);
            multiply(L, q, w->d[l + 1], w->dz[l], p, 1, w->anchor_turned + w->turned[l], q, w->dx[l], q, NULL, 1, FULL);
        }
        if (w->steps && l + 1 == D) last_step_backward(w, L);
        if (l)
            for (int i = 0; i < L * q; i += LANES)
                *at(w->dz[l - 1] + i) += *of(w->dx[l] + i) * slope(*of(w->sigma[l - 1] + i), *of(w->x[l] + i));
    }
}

/* Back through the shares: gradients of keep and eta, left in their place, and of theta. */
static void share_backward(struct work *w, int L) {
    const int P = w->square;
    real d_kept = w->d_kept;
    for (int j = 0; j < P; j += LANES) {
        *at(w->dC + (L - 1) * P + j) += *of(w->d_last + j);
        *at(w->d_theta + j) = -*of(w->d_ends + j) * *of(w->ls + L * P + j); /* becomes that of theta */
        *at(w->d_ls + j) = -*of(w->d_ends + j) * *of(w->theta + j);
    }
    vec *d_lm = at(w->d_mixed); /* that of the row of lm */
    for (int j = 0; j < P / LANES; j++) d_lm[j] = all(0);
    for (int t = L - 1; t >= 0; t--) {
        const real keep = w->keep[t], eta = w->eta[t];
        vec of_keep = {0}, of_eta = {0};
        for (int j = 0; j < P; j += LANES) {
            if (j > t) continue;
            const vec dC = *of(w->dC + t * P + j);
            *at(w->d_theta + j) -= dC * *of(w->lm + (t + 1) * P + j);
            const vec row = d_lm[j / LANES] - dC * *of(w->theta + j);
            const vec both = *of(w->d_ls + j) + row;
            of_keep += row * *of(w->lm + t * P + j);
            of_eta += both * *of(w->ls + t * P + j);
            d_lm[j / LANES] = keep * row;
            *at(w->d_ls + j) = eta * both;
        }
        d_kept += w->d_carry[t + 1];
        w->keep[t] = total(of_keep) + w->d_beta[t + 1] * w->beta[t] + w->d_carry[t + 1] * w->carry[t];
        w->eta[t] = total(of_eta) + d_kept * w->kept[t];
        w->d_beta[t] += keep * w->d_beta[t + 1];
        w->d_carry[t] += keep * w->d_carry[t + 1];
        d_kept *= eta;
    }
}

/* One chunk back: from d_memory and d_surprise to those before it. */
static void chunk_backward(struct work *w, const struct call *c, const struct walk *walk, int g, int started,
                           int wanted) {
    int start;
    const int L = piece(c, walk, g, &start), P = w->square, D = w->depth;
    const int *token = w->token + start;
    const int64_t b = walk->sample, h = walk->head;
    take(w, c, b, h, token, L);
    share(w, L);
    learn(w, L, started);
    memset(w->dC, 0, (size_t)L * P * sizeof(real));
    memset(w->d_beta, 0, (L + 1) * sizeof(real));
    memset(w->d_carry, 0, (L + 1) * sizeof(real));
    memset(w->d_ends, 0, P * sizeof(real));
    memset(w->d_last, 0, P * sizeof(real));
    memset(w->d_memory_next, 0, w->size * sizeof(real));
    memset(w->d_surprise_next, 0, w->size * sizeof(real));
    const int reads = c->tokens[Q] && c->d_y;
    if (started && (reads || w->online)) {
        turn(w, w->memory, w->memory_turned, 0);
        if (w->momentum) turn(w, w->surprise, w->surprise_turned, 0);
    }
    for (int l = 0; w->steps && l < D; l++) memset(w->dx[l], 0, (size_t)L * w->p[l] * sizeof(real));
    if (reads) {
        rows_in(c->tokens[Q], c->strides[Q], b, h, token, L, w->d[0], w->y[0], w->p[0]);
        read(w, L, started);
        const int64_t strides[3] = {c->length * c->heads * w->d[D], c->heads * w->d[D], w->d[D]};
        for (int t = 0; t < L; t++) memset(w->g + t * w->p[D], 0, w->p[D] * sizeof(real));
        rows_in(c->d_y, strides, b, h, token, L, w->d[D], w->g, w->p[D]);
        read_backward(w, L, started);
        rows_out(c, w->g, w->p[0], b, h, token, L, w->d[0], c->d_tokens[Q]);
    } else
        for (int l = 0; l < D; l++) {
            memset(w->d_written[l], 0, (size_t)L * w->p[l] * sizeof(real));
            memset(w->de[l], 0, (size_t)L * w->p[l + 1] * sizeof(real));
        }
    if (c->d_surprise) {
        const int64_t strides[3] = {c->length * c->heads, c->heads, 1};
        measure(w, L);
        gate_in(c->d_surprise, strides, b, h, token, L, w->scaled);
        measure_backward(w, L, w->scaled);
    }
    w->d_kept = 0;
    if (wanted) write_backward(w, L, started);
    learn_backward(w, L, started);
    share_backward(w, L);
    rows_out(c, w->dx[0], w->p[0], b, h, token, L, w->d[0], c->d_tokens[K]);
    for (int i = 0; i < L * w->p[D]; i += LANES) *at(w->dz[D - 1] + i) = -*of(w->dz[D - 1] + i);
    rows_out(c, w->dz[D - 1], w->p[D], b, h, token, L, w->d[D], c->d_tokens[V]);
    for (int t = 0; t < L; t++) w->keep[t] = -w->keep[t];
    if (c->tokens[FORGET]) gate_out(c, w->keep, b, h, token, L, c->d_tokens[FORGET]);
    if (c->tokens[MOMENTUM]) gate_out(c, w->eta, b, h, token, L, c->d_tokens[MOMENTUM]);
    gate_out(c, w->d_theta, b, h, token, L, c->d_tokens[LR]);
    real *swap = w->d_memory;
    w->d_memory = w->d_memory_next, w->d_memory_next = swap;
    swap = w->d_surprise;
    w->d_surprise = w->d_surprise_next, w->d_surprise_next = swap;
}

/* What stood before every chunk from the last saved boundary up to chunk g. */
static void boundaries(struct work *w, const struct call *c, const struct walk *walk, int g) {
    const int first = g / (int)c->every * (int)c->every;
    if (first) {
        const real *from = c->saved + (walk->memory * c->room + first / c->every - 1) * w->state;
        memcpy(w->memory, from, w->state * sizeof(real));
    }
    int started = first || at_start(w, c, walk);
    for (int i = first; i <= g; i++, started = 1) {
        memcpy(w->boundaries + (size_t)(i - first) * w->state, w->memory, w->state * sizeof(real));
        if (i == g) break;
        int start;
        const int L = piece(c, walk, i, &start);
        if (i) anchor_here(w);
        take(w, c, walk->sample, walk->head, w->token + start, L);
        share(w, L);
        learn(w, L, started);
        write(w, L);
    }
}

static void add(int n, real *x, const real *y) { blend(n, x, 1, y, 1); }

static void memory_backward(struct work *w, const struct call *c, const struct walk *walk) {
    const size_t bytes = w->size * sizeof(real);
    int64_t offsets[DEPTH];
    for (int l = 0; l < w->depth; l++) offsets[l] = walk->memory * w->d[l] * w->d[l + 1];
    at_start(w, c, walk);
    turn(w, w->initial, w->initial_turned, 0);
    memset(w->d_initial, 0, bytes), memset(w->d_memory, 0, bytes), memset(w->d_surprise, 0, bytes);
    memset(w->d_first_anchor, 0, bytes), memset(w->d_last_anchor, 0, bytes);
    if (c->d_weights_after[0]) load(w, c->d_weights_after, offsets, w->d_memory);
    if (c->d_momenta_after[0]) load(w, c->d_momenta_after, offsets, w->d_surprise);
    if (c->d_anchor_after[0]) load(w, c->d_anchor_after, offsets, w->d_last_anchor);
    if (w->to_initial) add(w->size, w->d_initial, w->d_memory);
    /* the last anchor is the memory after the last chunk if that is full, else that chunk's own */
    const int full = (walk->begun + walk->tokens) % c->chunk == 0;
    if (walk->chunks && full) {
        add(w->size, w->d_memory, w->d_last_anchor);
        if (w->to_initial) add(w->size, w->d_initial, w->d_last_anchor);
    } else if (!walk->chunks) add(w->size, w->d_first_anchor, w->d_last_anchor);
    int wanted = c->d_weights_after[0] || c->d_momenta_after[0] || c->d_anchor_after[0];
    for (int g = walk->chunks - 1; g >= 0; g--) {
        if (g == walk->chunks - 1 || (g + 1) % c->every == 0) boundaries(w, c, walk, g);
        int started = 1;
        if (g) {
            memcpy(w->memory, w->boundaries + (size_t)(g % c->every) * w->state, w->state * sizeof(real));
            anchor_here(w);
        } else started = at_start(w, c, walk);
        chunk_backward(w, c, walk, g, started, wanted);
        if (g == walk->chunks - 1 && !full) add(w->size, w->d_anchor, w->d_last_anchor);
        add(w->size, g ? w->d_memory : w->d_first_anchor, w->d_anchor);
        if (g && w->to_initial) add(w->size, w->d_initial, w->d_anchor);
        wanted = 1;
    }
    if (c->weights[0]) {
        if (w->to_initial) blend(w->size, w->d_initial, 1, w->d_memory, -1);
        store(w, w->d_memory, c->d_weights, walk->memory, 0);
        store(w, w->d_first_anchor, c->d_anchor, walk->memory, 0);
        if (w->momentum) store(w, w->d_surprise, c->d_momenta, walk->memory, 0);
    } else {
        add(w->size, w->d_initial, w->d_first_anchor);
        if (!w->to_initial) add(w->size, w->d_initial, w->d_memory);
    }
    store(w, w->d_initial, c->d_initial, walk->head, 1);
}

/* Gradients of every memory from `first` to `last`; 1 if there is no room to work in. */
int titans_backward(const struct call *c) {
    struct work *w = open_work(c, 1);
    if (!w) return 1;
    for (int64_t i = c->first; i < c->last; i++) {
        struct walk walk;
        begin(w, c, i, &walk);
        memory_backward(w, c, &walk);
    }
    free(w);
    return 0;
}
