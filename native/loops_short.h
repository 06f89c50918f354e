/*
 * The loops of one kernel for short codes (short.h), to be included where its steps are defined and after
 * loops_layouts.h. Escapes are dealt out to the values that need them without asking whether there are any: with one
 * or two in a group as a rule, a branch would be mispredicted.
 *
 * Steps beside those of loops_layouts.h and loops_encode.h:
 *   count_of                      the number of chosen lanes
 *   deal                          bytes of a stream to chosen lanes; may read GROUP bytes
 */

/* The next values. Moves *escapes; whether they are still those of the plane is the caller's care. */
STEP vec short_group(const struct table64 *table, const uint8_t *codes, const uint8_t **escapes) {
    vec code = both(load_packed(codes, ZIPFS_SHORT_BITS), bytes(ZIPFS_SHORT_ESCAPE));
    chosen escaped = where_equal(code, bytes(ZIPFS_SHORT_ESCAPE));
    vec values = deal(escaped, look_up(table, 1, code), *escapes);
    *escapes += count_of(escaped);
    return values;
}

/* Values to where the layout has them; BYTES: they are the elements. */
STEP void put_short(uint32_t layout, vec values, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    switch (layout) {
    case ZIPFS_BF16: merge_bf16_group(values, planes, dst + 2 * i, i); break;
    case ZIPFS_F32: merge_f32_group(values, planes, dst + 4 * i, i); break;
    default: store(dst + i, values);
    }
}

/* All whole groups; returns how many values they are. The portable kernel does the rest. */
STEP size_t decode_short(uint32_t layout, struct zipfs_short_decoder *decoder, const uint8_t *const *planes,
                         uint8_t *dst, size_t n) {
    const struct table64 table = load_table64(decoder->value);
    const uint8_t *codes = decoder->codes, *escapes = decoder->escapes, *escapes_end = decoder->escapes_end,
                  *ahead = decoder->ahead;
    const size_t ahead_step = decoder->ahead_step * GROUP / ZIPFS_SHORT_AT_ONCE;
    size_t i = 0;
    for (; i + GROUP <= n && escapes <= escapes_end; i += GROUP) {
        put_short(layout, short_group(&table, codes, &escapes), planes, dst, i);
        codes += GROUP / 8 * ZIPFS_SHORT_BITS;
        for (const uint8_t *ahead_end = ahead + ahead_step; ahead < ahead_end; ahead += 64)
            __builtin_prefetch(ahead, 0, 2);
    }
    decoder->codes = codes;
    decoder->escapes = escapes;
    decoder->ahead = ahead;
    return i;
}

TARGET static bool short_decode(struct zipfs_short_decoder *decoder, uint8_t *values, size_t n) {
    size_t done = decode_short(ZIPFS_BYTES, decoder, NULL, values, n);
    return zipfs_kernels_scalar.short_decode(decoder, values + done, n - done);
}

#define SHORT_MERGE(name, layout, width, num_fields)                                                                   \
    TARGET static bool name(struct zipfs_short_decoder *decoder, const uint8_t *const *given, uint8_t *dst,            \
                            size_t n) {                                                                                \
        const uint8_t *planes[num_fields];                                                                             \
        memcpy(planes, given, sizeof planes);                                                                          \
        size_t done = decode_short(layout, decoder, planes, dst, n);                                                   \
        for (unsigned f = 1; f < (num_fields); f++)                                                                    \
            planes[f] += done;                                                                                         \
        return zipfs_kernels_scalar.short_merge[layout](decoder, planes, dst + (width) * done, n - done);              \
    }

SHORT_MERGE(short_merge_bf16, ZIPFS_BF16, 2, 2)
SHORT_MERGE(short_merge_f32, ZIPFS_F32, 4, 4)

/* 64 values at a time, a word of `escaped`; what is written beyond their codes is replaced by the next ones. */
TARGET static void short_encode(const uint8_t code_of[256], const uint8_t *values, size_t n, uint8_t *dst,
                                uint64_t *escaped) {
    enum { AT_ONCE = 64 };
    const struct sparse_table codes = load_sparse_table(code_of, ZIPFS_SHORT_ESCAPE);
    const size_t beyond = packed_size(ZIPFS_SHORT_BITS) - GROUP / 8 * ZIPFS_SHORT_BITS;
    size_t i = 0;
    for (; (n - i) / 8 * ZIPFS_SHORT_BITS >= AT_ONCE / 8 * ZIPFS_SHORT_BITS + beyond; i += AT_ONCE)
        for (size_t k = i; k < i + AT_ONCE; k += GROUP) {
            vec code = look_up_sparse(&codes, load(values + k), 8);
            store_bits((uint8_t *)escaped + k / 8, where_equal(code, bytes(ZIPFS_SHORT_ESCAPE)));
            store_packed(dst + k / 8 * ZIPFS_SHORT_BITS, code, ZIPFS_SHORT_BITS);
        }
    zipfs_kernels_scalar.short_encode(code_of, values + i, n - i, dst + i / 8 * ZIPFS_SHORT_BITS, escaped + i / 64);
}

/* Their places in a table of kernels. */
#define SHORT_LOOPS                                                                                                    \
    .short_encode = short_encode, .short_decode = short_decode,                                                        \
    .short_merge = {[ZIPFS_BF16] = short_merge_bf16, [ZIPFS_F32] = short_merge_f32}
