/* What ../op.py passes, eight bytes a field. */

#ifndef TITANS_MEMORY_H
#define TITANS_MEMORY_H

#include "products.h"

_Static_assert(sizeof(void *) == 8, "addresses are passed in eight bytes");

enum { DEPTH = 4 }; /* most layers */
enum tokens { Q, K, V, FORGET, MOMENTUM, LR, TOKENS };

/* Tokens [B, T, H, d] and gates [B, T, H] have strides (batch, token, head) and rows without gaps; weights are [H,
   d_in, d_out] or, each with its stride of the batch, [B, H, d_in, d_out]; everything that is written is contiguous.
   NULL where there is none. */
struct call {
    int64_t depth, chunk, batch, heads, length, to_initial, online, every, room;
    int64_t first, last; /* memories first to last - 1 */
    int64_t widths[DEPTH + 1];
    const real *tokens[TOKENS];
    int64_t strides[TOKENS][3];
    const uint8_t *mask;
    const int64_t *position;
    const real *initial[DEPTH];
    const real *weights[DEPTH], *momenta[DEPTH], *anchor[DEPTH];
    int64_t batches[3][DEPTH];
    /* forward: results */
    real *y, *surprise, *weights_after[DEPTH], *momenta_after[DEPTH], *anchor_after[DEPTH], *saved;
    /* backward: gradients of those, and results; that of M_0 is added to */
    const real *d_y, *d_surprise, *d_weights_after[DEPTH], *d_momenta_after[DEPTH], *d_anchor_after[DEPTH];
    real *d_tokens[TOKENS], *d_initial[DEPTH], *d_weights[DEPTH], *d_momenta[DEPTH],
        *d_anchor[DEPTH];
};

/* Results, and gradients, of every memory from `first` to `last` - 1; not 0 if there is no room to work in. */
int titans_forward(const struct call *c);
int titans_backward(const struct call *c);

#endif
