/*
 * What the rANS decoders of kernels have in common, to be included where a kernel's steps are defined, before or after
 * its decode_whole: where decoded patterns go, and the ends of streams. Patterns are the values of a field, shifted to
 * where they stand in an element.
 *
 * Steps beside those of loops_layouts.h:
 *   add_bits                      bits of bytes that are clear before
 *   add_signs add_pairs           a bit for each lane to the top bits of bytes; two bits, to the lowest and the top bit
 */

/* What a stream has, so that its loop need not ask; a loop for each, made by the compiler from one. */
enum sink { SINK_VALUES, SINK_BF16, SINK_F16, SINK_F32, SINK_E4M3, SINK_E5M2 };

STEP bool is_wide(enum sink sink) {
    return sink == SINK_BF16 || sink == SINK_F16 || sink == SINK_F32;
}

STEP unsigned num_planes(enum sink sink) {
    return sink == SINK_VALUES ? 0 : sink == SINK_F32 ? 4 : sink == SINK_F16 ? 3 : 2;
}

/* Puts the patterns of a group from element i on where they belong, with the rest of their elements. */
STEP void put(enum sink sink, vec low, vec high, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    switch (sink) {
    case SINK_VALUES: store(dst + i, low); return;
    case SINK_E5M2: store(dst + i, add_signs(low, planes[1] + i / 8)); return;
    case SINK_E4M3: store(dst + i, add_pairs(low, planes[1] + i / 4)); return;
    case SINK_F16: {
        vec b[2] = {load(planes[2] + i), add_signs(high, planes[1] + i / 8)};
        store_elements(dst + 2 * i, b, 2);
        return;
    }
    default: break;
    }
    vec rest = load_packed(planes[1] + i / 8 * 6, 6);
    low = add_bits(low, rest, 0x1f);
    high = add_bits(high, up(rest, 2), 0x80);
    if (sink == SINK_BF16) {
        vec b[2] = {low, high};
        store_elements(dst + 2 * i, b, 2);
    } else {
        vec b[4] = {load(planes[3] + i), load(planes[2] + i), low, high};
        store_elements(dst + 4 * i, b, 4);
    }
}

/* Moves the last coded bytes to where more can be read, when no more can where they are. */
static void make_readable(struct zipfs_rans_decoder *decoder) {
    if (decoder->readable_end - decoder->coded >= ZIPFS_RANS_MAX_LANES)
        return;
    size_t left = (size_t)(decoder->coded_end - decoder->coded);
    memcpy(decoder->tail, decoder->coded, left);
    memset(decoder->tail + left, 0, sizeof decoder->tail - left);
    decoder->coded = decoder->tail;
    decoder->coded_end = decoder->tail + left;
    decoder->readable_end = decoder->tail + sizeof decoder->tail;
}

/* All whole groups of lanes; the portable kernel does the rest. False when a stream ran out. */
STEP bool decode_whole(enum sink sink, struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,
                       size_t n, size_t *done_ret);

TARGET static bool rans_decode(struct zipfs_rans_decoder *decoder, uint8_t *values, size_t n) {
    size_t done;
    return decode_whole(SINK_VALUES, decoder, NULL, values, n, &done) &&
           (done == n || zipfs_kernels_scalar.rans_decode(decoder, values + done, n - done));
}

/* bits: of the second field. */
#define JOINT_MERGE(name, sink, layout, width, bits)                                                                   \
    TARGET static bool name(struct zipfs_rans_decoder *decoder, const uint8_t *const *planes, uint8_t *dst,            \
                            size_t n) {                                                                                \
        size_t done;                                                                                                   \
        if (!decode_whole(sink, decoder, planes, dst, n, &done))                                                       \
            return false;                                                                                              \
        if (done == n)                                                                                                 \
            return true;                                                                                               \
        const uint8_t *rest[4] = {NULL, planes[1] + done / 8 * (bits)};                                                \
        for (unsigned f = 2; f < num_planes(sink); f++)                                                                \
            rest[f] = planes[f] + done;                                                                                \
        return zipfs_kernels_scalar.joint_merge[layout](decoder, rest, dst + (width) * done, n - done);                \
    }

JOINT_MERGE(joint_merge_bf16, SINK_BF16, ZIPFS_BF16_JOINT, 2, 6)
JOINT_MERGE(joint_merge_f16, SINK_F16, ZIPFS_F16_JOINT, 2, 1)
JOINT_MERGE(joint_merge_f32, SINK_F32, ZIPFS_F32_JOINT, 4, 6)
JOINT_MERGE(joint_merge_e4m3, SINK_E4M3, ZIPFS_F8_E4M3_JOINT, 1, 2)
JOINT_MERGE(joint_merge_e5m2, SINK_E5M2, ZIPFS_F8_E5M2_JOINT, 1, 1)

/* Their places in a table of kernels. */
#define ELEMENT_LOOPS                                                                                                  \
    .rans_decode = rans_decode,                                                                                        \
    .joint_merge = {[ZIPFS_BF16_JOINT] = joint_merge_bf16, joint_merge_f16, joint_merge_f32, joint_merge_e4m3,         \
                    joint_merge_e5m2}
