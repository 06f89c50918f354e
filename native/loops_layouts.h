/*
 * The layout loops of one kernel, to be included where its steps are defined: fields to elements and back, packed bits,
 * tables, and elements to codes and planes of joint layouts. They work on GROUP elements at a time; the portable kernel
 * does the rest. Steps are functions on `vec`, a vector of GROUP bytes:
 *
 *   load store bytes              at any address; one byte everywhere
 *   both choose up down           bitwise; `up` and `down` shift bytes, and may leave bits of a neighbour in the gap
 *   load_elements store_elements  GROUP elements of 2, 4 or 8 bytes as vectors of their bytes, the lowest first
 *   load_packed store_packed      GROUP values of `bits` bits: packed, and a byte each. load_packed reads no byte more
 *                                 than there are, and does not clear the upper bits of the values; store_packed takes
 *                                 clear ones, and writes packed_size bytes, which may be more than there are
 *   store_signs                   the top bit of each byte, as GROUP / 8 bytes
 *   load_sparse_table look_up_sparse
 *                                 tables of 256 bytes of which most are one and the same; indices have `bits` bits
 *
 * TARGET and STEP stand before functions that are called and inlined.
 */

/* ---- packed bits: `bits` is a constant wherever it matters ---- */

STEP void unpack_as(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    const vec mask = bytes((1u << bits) - 1);
    size_t i = 0;
    for (; i + GROUP <= n; i += GROUP)
        store(values + i, both(load_packed(src + i / 8 * bits, bits), mask));
    zipfs_kernels_scalar.unpack(src + i / 8 * bits, bits, values + i, n - i);
}

/* The next group replaces what is written beyond the packed values. */
STEP void pack_as(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    size_t i = 0;
    for (; (n - i) * bits / 8 >= packed_size(bits); i += GROUP)
        store_packed(dst + i / 8 * bits, load(values + i), bits);
    zipfs_kernels_scalar.pack(values + i, bits, dst + i / 8 * bits, n - i);
}

TARGET static void unpack(const uint8_t *src, unsigned bits, uint8_t *values, size_t n) {
    switch (bits) {
    case 1: unpack_as(src, 1, values, n); break;
    case 2: unpack_as(src, 2, values, n); break;
    case 3: unpack_as(src, 3, values, n); break;
    case 4: unpack_as(src, 4, values, n); break;
    case 5: unpack_as(src, 5, values, n); break;
    default: unpack_as(src, 6, values, n);
    }
}

TARGET static void pack(const uint8_t *values, unsigned bits, uint8_t *dst, size_t n) {
    switch (bits) {
    case 1: pack_as(values, 1, dst, n); break;
    case 2: pack_as(values, 2, dst, n); break;
    case 3: pack_as(values, 3, dst, n); break;
    case 4: pack_as(values, 4, dst, n); break;
    case 5: pack_as(values, 5, dst, n); break;
    default: pack_as(values, 6, dst, n);
    }
}

/* ---- tables ---- */

/* Small palettes have a sparse table. */
TARGET static void look_up_all(const uint8_t table[256], const uint8_t *src, uint8_t *dst, size_t n) {
    const struct sparse_table t = load_sparse_table(table, table[255]);
    size_t i = 0;
    for (; i + GROUP <= n; i += GROUP)
        store(dst + i, look_up_sparse(&t, load(src + i), 8));
    zipfs_kernels_scalar.look_up(table, src + i, dst + i, n - i);
}

/* ---- fields and elements: GROUP of them from element i on; src and dst are those elements ---- */

/* Exponent and sign | 7 bits to the two top bytes of BF16 and F32. */
STEP void join_8(vec exponent, vec rest, vec *high, vec *low) {
    *high = choose(bytes(0x80), rest, down(exponent, 1));
    *low = choose(bytes(0x80), up(exponent, 7), rest);
}

STEP vec exponent_8(vec high, vec low) {
    return choose(bytes(0xfe), up(high, 1), both(down(low, 7), bytes(1)));
}

STEP void merge_bf16_group(vec exponent, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    vec b[2];
    join_8(exponent, load(planes[1] + i), &b[1], &b[0]);
    store_elements(dst, b, 2);
}

STEP void split_bf16_group(const uint8_t *src, uint8_t *const *planes, size_t i) {
    vec b[2];
    load_elements(src, b, 2);
    store(planes[0] + i, exponent_8(b[1], b[0]));
    store(planes[1] + i, choose(bytes(0x80), b[1], b[0]));
}

STEP void merge_f16_group(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    vec exponent = load(planes[0] + i), middle = load(planes[1] + i);
    vec top = choose(bytes(0x80), up(middle, 5), up(exponent, 2));
    vec b[2] = {load(planes[2] + i), choose(bytes(3), middle, top)};
    store_elements(dst, b, 2);
}

STEP void split_f16_group(const uint8_t *src, uint8_t *const *planes, size_t i) {
    vec b[2];
    load_elements(src, b, 2);
    store(planes[0] + i, both(down(b[1], 2), bytes(31)));
    store(planes[1] + i, choose(bytes(3), b[1], both(down(b[1], 5), bytes(4))));
    store(planes[2] + i, b[0]);
}

STEP void merge_f32_group(vec exponent, const uint8_t *const *planes, uint8_t *dst, size_t i) {
    vec b[4] = {load(planes[3] + i), load(planes[2] + i)};
    join_8(exponent, load(planes[1] + i), &b[3], &b[2]);
    store_elements(dst, b, 4);
}

STEP void split_f32_group(const uint8_t *src, uint8_t *const *planes, size_t i) {
    vec b[4];
    load_elements(src, b, 4);
    store(planes[0] + i, exponent_8(b[3], b[2]));
    store(planes[1] + i, choose(bytes(0x80), b[3], b[2]));
    store(planes[2] + i, b[1]);
    store(planes[3] + i, b[0]);
}

/* y = 3 8 5 bits of exponent and sign and mantissa, then 6 bytes; x has the sign on top and 7 4 exponent bits in the
 * top bytes. */
STEP void merge_f64_group(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    vec e_high = load(planes[0] + i), e_low = load(planes[1] + i), rest = load(planes[2] + i), b[8];
    for (unsigned k = 0; k < 6; k++)
        b[k] = load(planes[8 - k] + i);
    vec top = choose(bytes(0x70), up(e_high, 4), both(down(e_low, 4), bytes(0x0f)));
    b[7] = choose(bytes(0x80), up(rest, 3), top);
    b[6] = choose(bytes(0xf0), up(e_low, 4), rest);
    store_elements(dst, b, 8);
}

STEP void split_f64_group(const uint8_t *src, uint8_t *const *planes, size_t i) {
    vec b[8];
    load_elements(src, b, 8);
    store(planes[0] + i, both(down(b[7], 4), bytes(7)));
    store(planes[1] + i, choose(bytes(0xf0), up(b[7], 4), down(b[6], 4)));
    store(planes[2] + i, choose(bytes(0x0f), b[6], both(down(b[7], 3), bytes(0x10))));
    for (unsigned k = 0; k < 6; k++)
        store(planes[8 - k] + i, b[k]);
}

STEP void merge_e4m3_group(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    vec rest = load(planes[1] + i);
    vec top = choose(bytes(0x80), up(rest, 4), up(load(planes[0] + i), 3));
    store(dst, choose(bytes(7), rest, top));
}

STEP void split_e4m3_group(const uint8_t *src, uint8_t *const *planes, size_t i) {
    vec x = load(src);
    store(planes[0] + i, both(down(x, 3), bytes(15)));
    store(planes[1] + i, choose(bytes(7), x, both(down(x, 4), bytes(8))));
}

STEP void merge_e5m2_group(const uint8_t *const *planes, uint8_t *dst, size_t i) {
    vec rest = load(planes[1] + i);
    vec top = choose(bytes(0x80), up(rest, 5), up(load(planes[0] + i), 2));
    store(dst, choose(bytes(3), rest, top));
}

STEP void split_e5m2_group(const uint8_t *src, uint8_t *const *planes, size_t i) {
    vec x = load(src);
    store(planes[0] + i, both(down(x, 2), bytes(31)));
    store(planes[1] + i, choose(bytes(3), x, both(down(x, 5), bytes(4))));
}

STEP void merge_integers_group(const uint8_t *const *planes, uint8_t *dst, size_t i, unsigned width) {
    vec b[8];
    for (unsigned k = 0; k < width; k++)
        b[k] = load(planes[width - 1 - k] + i);
    store_elements(dst, b, width);
}

STEP void split_integers_group(const uint8_t *src, uint8_t *const *planes, size_t i, unsigned width) {
    vec b[8];
    load_elements(src, b, width);
    for (unsigned k = 0; k < width; k++)
        store(planes[width - 1 - k] + i, b[k]);
}

/* `loop` sees i, dst or src, and planes: a copy, since the compiler must take what is stored for an alias of the
 * pointers that it was given. */
#define MERGE(name, layout, width, num_fields, loop)                                                                   \
    TARGET static void name(const uint8_t *const *given, uint8_t *dst, size_t n) {                                     \
        const uint8_t *planes[num_fields];                                                                             \
        memcpy(planes, given, sizeof planes);                                                                          \
        size_t i = 0;                                                                                                  \
        for (; i + GROUP <= n; i += GROUP)                                                                             \
            loop;                                                                                                      \
        for (unsigned f = 0; f < (num_fields); f++)                                                                    \
            planes[f] += i;                                                                                            \
        zipfs_kernels_scalar.merge[layout](planes, dst + (width) * i, n - i);                                          \
    }

#define SPLIT(name, layout, width, num_fields, loop)                                                                   \
    TARGET static void name(const uint8_t *src, uint8_t *const *given, size_t n) {                                     \
        uint8_t *planes[num_fields];                                                                                   \
        memcpy(planes, given, sizeof planes);                                                                          \
        size_t i = 0;                                                                                                  \
        for (; i + GROUP <= n; i += GROUP)                                                                             \
            loop;                                                                                                      \
        for (unsigned f = 0; f < (num_fields); f++)                                                                    \
            planes[f] += i;                                                                                            \
        zipfs_kernels_scalar.split[layout](src + (width) * i, planes, n - i);                                          \
    }

MERGE(merge_bf16, ZIPFS_BF16, 2, 2, merge_bf16_group(load(planes[0] + i), planes, dst + 2 * i, i))
SPLIT(split_bf16, ZIPFS_BF16, 2, 2, split_bf16_group(src + 2 * i, planes, i))
MERGE(merge_f16, ZIPFS_F16, 2, 3, merge_f16_group(planes, dst + 2 * i, i))
SPLIT(split_f16, ZIPFS_F16, 2, 3, split_f16_group(src + 2 * i, planes, i))
MERGE(merge_f32, ZIPFS_F32, 4, 4, merge_f32_group(load(planes[0] + i), planes, dst + 4 * i, i))
SPLIT(split_f32, ZIPFS_F32, 4, 4, split_f32_group(src + 4 * i, planes, i))
MERGE(merge_f64, ZIPFS_F64, 8, 9, merge_f64_group(planes, dst + 8 * i, i))
SPLIT(split_f64, ZIPFS_F64, 8, 9, split_f64_group(src + 8 * i, planes, i))
MERGE(merge_e4m3, ZIPFS_F8_E4M3, 1, 2, merge_e4m3_group(planes, dst + i, i))
SPLIT(split_e4m3, ZIPFS_F8_E4M3, 1, 2, split_e4m3_group(src + i, planes, i))
MERGE(merge_e5m2, ZIPFS_F8_E5M2, 1, 2, merge_e5m2_group(planes, dst + i, i))
SPLIT(split_e5m2, ZIPFS_F8_E5M2, 1, 2, split_e5m2_group(src + i, planes, i))
MERGE(merge_i16, ZIPFS_I16, 2, 2, merge_integers_group(planes, dst + 2 * i, i, 2))
SPLIT(split_i16, ZIPFS_I16, 2, 2, split_integers_group(src + 2 * i, planes, i, 2))
MERGE(merge_i32, ZIPFS_I32, 4, 4, merge_integers_group(planes, dst + 4 * i, i, 4))
SPLIT(split_i32, ZIPFS_I32, 4, 4, split_integers_group(src + 4 * i, planes, i, 4))
MERGE(merge_i64, ZIPFS_I64, 8, 8, merge_integers_group(planes, dst + 8 * i, i, 8))
SPLIT(split_i64, ZIPFS_I64, 8, 8, split_integers_group(src + 8 * i, planes, i, 8))

/* ---- joint layouts ---- */

/* Codes of a group, whose exponent has `bits` bits and whose upper mantissa bits are the two lowest of `mantissa`. The
 * table has four times the rows. */
STEP vec joint_codes(const struct sparse_table *rows, vec exponent, unsigned bits, vec mantissa) {
    return choose(bytes(3), mantissa, look_up_sparse(rows, exponent, bits));
}

STEP struct sparse_table load_rows(const uint8_t row[256]) {
    uint8_t times_four[256];
    for (unsigned e = 0; e < 256; e++)
        times_four[e] = (uint8_t)(4 * row[e]);
    return load_sparse_table(times_four, 4 * ZIPFS_JOINT_NO_ROW);
}

/* Of the two top bytes of BF16 and F32; *rest_ret: the sign above the 5 next mantissa bits. */
STEP vec split_joint_8(const struct sparse_table *rows, vec high, vec low, vec *rest_ret) {
    *rest_ret = choose(bytes(0x1f), low, both(down(high, 2), bytes(0x20)));
    return joint_codes(rows, exponent_8(high, low), 8, down(low, 5));
}

/* These return the codes of a group from element i on, and its second field; of one that is a bit, on top. */
STEP vec split_joint_bf16_group(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                vec *rest_ret) {
    (void)planes;
    vec b[2];
    load_elements(src + 2 * i, b, 2);
    return split_joint_8(rows, b[1], b[0], rest_ret);
}

STEP vec split_joint_f32_group(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                               vec *rest_ret) {
    vec b[4];
    load_elements(src + 4 * i, b, 4);
    store(planes[2] + i, b[1]);
    store(planes[3] + i, b[0]);
    return split_joint_8(rows, b[3], b[2], rest_ret);
}

STEP vec split_joint_f16_group(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                               vec *rest_ret) {
    vec b[2];
    load_elements(src + 2 * i, b, 2);
    store(planes[2] + i, b[0]);
    *rest_ret = b[1];
    return joint_codes(rows, both(down(b[1], 2), bytes(31)), 5, b[1]);
}

STEP vec split_joint_e4m3_group(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                vec *rest_ret) {
    (void)planes;
    vec x = load(src + i);
    *rest_ret = choose(bytes(1), x, both(down(x, 6), bytes(2)));
    return joint_codes(rows, both(down(x, 3), bytes(15)), 4, down(x, 1));
}

STEP vec split_joint_e5m2_group(const struct sparse_table *rows, const uint8_t *src, uint8_t *const *planes, size_t i,
                                vec *rest_ret) {
    (void)planes;
    vec x = load(src + i);
    *rest_ret = x;
    return joint_codes(rows, both(down(x, 2), bytes(31)), 5, x);
}

/* planes[1] has room for n bytes, and so for what store_packed writes too much. */
#define JOINT_SPLIT(name, layout, width, bits, num_fields, step)                                                       \
    TARGET static void name(const uint8_t *src, const uint8_t row[256], uint8_t *codes, uint8_t *const *given,         \
                            size_t n) {                                                                                \
        const struct sparse_table rows = load_rows(row);                                                               \
        uint8_t *planes[num_fields];                                                                                   \
        memcpy(planes, given, sizeof planes);                                                                          \
        size_t i = 0;                                                                                                  \
        for (; i + GROUP <= n; i += GROUP) {                                                                           \
            vec rest;                                                                                                  \
            store(codes + i, step(&rows, src, planes, i, &rest));                                                      \
            if ((bits) == 1)                                                                                           \
                store_signs(planes[1] + i / 8, rest);                                                                  \
            else                                                                                                       \
                store_packed(planes[1] + i / 8 * (bits), rest, bits);                                                  \
        }                                                                                                              \
        planes[1] += i / 8 * (bits);                                                                                   \
        for (unsigned f = 2; f < (num_fields); f++)                                                                    \
            planes[f] += i;                                                                                            \
        zipfs_kernels_scalar.joint_split[layout](src + (width) * i, row, codes + i, planes, n - i);                    \
    }

JOINT_SPLIT(joint_split_bf16, ZIPFS_BF16_JOINT, 2, 6, 2, split_joint_bf16_group)
JOINT_SPLIT(joint_split_f16, ZIPFS_F16_JOINT, 2, 1, 3, split_joint_f16_group)
JOINT_SPLIT(joint_split_f32, ZIPFS_F32_JOINT, 4, 6, 4, split_joint_f32_group)
JOINT_SPLIT(joint_split_e4m3, ZIPFS_F8_E4M3_JOINT, 1, 2, 2, split_joint_e4m3_group)
JOINT_SPLIT(joint_split_e5m2, ZIPFS_F8_E5M2_JOINT, 1, 1, 2, split_joint_e5m2_group)

/* Their places in a table of kernels. */
#define LAYOUT_LOOPS                                                                                                   \
    .unpack = unpack, .pack = pack, .look_up = look_up_all,                                                            \
    .merge = {NULL, merge_bf16, merge_f16, merge_f32, merge_f64, merge_e4m3, merge_e5m2, merge_i16, merge_i32,         \
              merge_i64},                                                                                              \
    .split = {NULL, split_bf16, split_f16, split_f32, split_f64, split_e4m3, split_e5m2, split_i16, split_i32,         \
              split_i64},                                                                                              \
    .joint_split = {[ZIPFS_BF16_JOINT] = joint_split_bf16, joint_split_f16, joint_split_f32, joint_split_e4m3,         \
                    joint_split_e5m2}
