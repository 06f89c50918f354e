/* Dividing pieces where the statistics of their exponents change. */
#ifndef ZIPFS_DIVIDE_H
#define ZIPFS_DIVIDE_H

#include "plan.h"

/* Bytes; the smallest window whose statistics count by themselves. A chunk has size / ZIPFS_DIVIDE_MIN at most. */
enum { ZIPFS_DIVIDE_MIN = 1 << 13 };

/* Cuts float pieces of a plan where two tables of probabilities cost less than one, their own size counted. */
void zipfs_plan_divide(struct zipfs_codec *codec, const uint8_t *src, struct zipfs_plan *plan);

#endif
