/* Dividing pieces where the statistics of their exponents change. */
#ifndef ZIPFS_DIVIDE_H
#define ZIPFS_DIVIDE_H

#include "plan.h"

enum { ZIPFS_DIVIDE_WINDOW = 1 << 15 }; /* bytes; cuts lie on this grid, counted from the piece's first element */

/* Cuts float pieces of a plan where two tables of probabilities cost less than one, their own size counted. */
void zipfs_plan_divide(struct zipfs_codec *codec, const uint8_t *src, struct zipfs_plan *plan);

#endif
