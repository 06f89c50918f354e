/* Statistical detection of layout and phase where no segment says them. */
#ifndef ZIPFS_GUESS_H
#define ZIPFS_GUESS_H

#include "plan.h"

/* Appends pieces for the bytes [start, end) of the chunk at src. */
void zipfs_guess(struct zipfs_codec *codec, const uint8_t *src, size_t start, size_t end, struct zipfs_plan *plan);

#endif
