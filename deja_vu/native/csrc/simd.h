// A few vector types of the compiled variant's native width, and nothing from the C++ library: an inline function of the
// library that ended up out of line in one variant could be picked by the linker for all of them.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define DEJA_VU_LANES 16
#define DEJA_VU_VARIANT avx512
#elif defined(__AVX2__)
#include <immintrin.h>
#define DEJA_VU_LANES 8
#define DEJA_VU_VARIANT avx2
#else
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#define DEJA_VU_LANES 4
#define DEJA_VU_VARIANT base
#endif

namespace deja_vu {
namespace DEJA_VU_VARIANT {

constexpr int kLanes = DEJA_VU_LANES;
constexpr int kBlockPixels = 16;
constexpr int kVecs = kBlockPixels / kLanes;  // vectors that hold one 4x4 pixel block

typedef float V __attribute__((vector_size(4 * DEJA_VU_LANES)));
typedef int32_t I __attribute__((vector_size(4 * DEJA_VU_LANES)));

static inline V broadcast(float value) { return V{} + value; }
static inline V load(const float* from) {
    V out;
    memcpy(&out, from, sizeof(V));
    return out;
}
static inline void store(float* to, V value) { memcpy(to, &value, sizeof(V)); }
static inline V vmin(V a, V b) { return a < b ? a : b; }
static inline V vmax(V a, V b) { return a > b ? a : b; }
static inline V vclamp(V value, V low, V high) { return vmin(vmax(value, low), high); }
static inline I to_int(V value) { return __builtin_convertvector(value, I); }
static inline V to_float(I value) { return __builtin_convertvector(value, V); }

// By the bits, as no flag for floating-point numbers can fold that away.
static inline I not_finite(V value) { return ((I)value & 0x7f800000) == 0x7f800000; }

static inline V vsqrt(V value) {
#if DEJA_VU_LANES == 16
    return (V)_mm512_sqrt_ps((__m512)value);
#elif DEJA_VU_LANES == 8
    return (V)_mm256_sqrt_ps((__m256)value);
#elif defined(__SSE2__)
    return (V)_mm_sqrt_ps((__m128)value);
#else
    for (int lane = 0; lane < kLanes; ++lane) value[lane] = __builtin_sqrtf(value[lane]);
    return value;
#endif
}

// 1 / value to a few units in the last place: the estimate and one Newton step, as a division would stall the loop that uses it.
static inline V reciprocal(V value) {
#if DEJA_VU_LANES == 16
    const V guess = (V)_mm512_rcp14_ps((__m512)value);
#elif DEJA_VU_LANES == 8
    const V guess = (V)_mm256_rcp_ps((__m256)value);
#elif defined(__SSE2__)
    const V guess = (V)_mm_rcp_ps((__m128)value);
#else
    return 1.0f / value;
#endif
#if DEJA_VU_LANES > 4 || defined(__SSE2__)
    return guess + guess * (1.0f - value * guess);
#endif
}

// One bit a lane from a comparison's all-ones or all-zeros.
static inline unsigned mask_bits(I mask) {
#if DEJA_VU_LANES == 16
    return _mm512_movepi32_mask((__m512i)mask);
#elif DEJA_VU_LANES == 8
    return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
#elif defined(__SSE2__)
    return static_cast<unsigned>(_mm_movemask_ps((__m128)mask));
#else
    unsigned bits = 0;
    for (int lane = 0; lane < kLanes; ++lane) bits |= (mask[lane] & 1u) << lane;
    return bits;
#endif
}

// 2^p for p >= -126; relative error 1.2e-7 (minimax polynomial on [-0.5, 0.5]). Adding 1.5 * 2^23 rounds to an integer, which
// is why this file must not be compiled with -fassociative-math.
static inline V exp2_of(V p) {
    const V shifted = p + 12582912.0f;
    const V f = p - (shifted - 12582912.0f);
    V poly = f * 1.327647174e-03f + 9.675541540e-03f;
    poly = poly * f + 5.550713276e-02f;
    poly = poly * f + 2.402211972e-01f;
    poly = poly * f + 6.931469671e-01f;
    poly = poly * f + 1.0f;
    return (V)((I)poly + ((I)shifted << 23));
}

// 2^p where p >= limit, else 0; limit >= -126.
static inline V exp2_above(V p, float limit) {
#if DEJA_VU_LANES == 16
    // Relative error 1.5e-7 (minimax polynomial on [0, 1)).
    const __m512 f = _mm512_reduce_ps((__m512)p, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    V poly = (V)f * 1.877574952e-03f + 8.989344552e-03f;
    poly = poly * (V)f + 5.582631389e-02f;
    poly = poly * (V)f + 2.401536187e-01f;
    poly = poly * (V)f + 6.931530729e-01f;
    poly = poly * (V)f + 9.999999251e-01f;
    return (V)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)p, _mm512_set1_ps(limit), _CMP_GE_OQ), (__m512)poly, (__m512)p);
#else
    const V value = exp2_of(p);
    return p >= limit ? value : V{};
#endif
}

// log2 of positive normal numbers; the series of atanh around 1 keeps it exact there.
static inline V log2_of(V value) {
    const I bits = (I)value - 0x3f3504f3;  // mantissa into [sqrt(1/2), sqrt(2))
    const V exponent = to_float(bits >> 23);
    const V mantissa = (V)((bits & 0x007fffff) + 0x3f3504f3);
    const V s = (mantissa - 1.0f) / (mantissa + 1.0f);
    const V s2 = s * s;
    V series = s2 * 0.320598897f + 0.412198583f;
    series = series * s2 + 0.577078016f;
    series = series * s2 + 0.961796694f;
    series = series * s2 + 2.885390082f;
    return series * s + exponent;
}

#if DEJA_VU_LANES == 16
#define DEJA_VU_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define DEJA_VU_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif DEJA_VU_LANES == 8
#define DEJA_VU_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define DEJA_VU_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define DEJA_VU_LOW 0, 4, 1, 5
#define DEJA_VU_HIGH 2, 6, 3, 7
#endif
#if defined(__clang__)
#define DEJA_VU_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DEJA_VU_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, I{__VA_ARGS__})
#endif

// Transpose a square of kLanes vectors: each round turns the address bits (row, lane) by one.
static inline void transpose(V* x) {
    V y[kLanes];
    for (int round = 1; round < kLanes; round *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes / 2; ++i) {
            y[2 * i] = DEJA_VU_SHUFFLE(x[i], x[i + kLanes / 2], DEJA_VU_LOW);
            y[2 * i + 1] = DEJA_VU_SHUFFLE(x[i], x[i + kLanes / 2], DEJA_VU_HIGH);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) x[i] = y[i];
    }
}

static inline float sum_of(V value) {
    float lanes[kLanes];
    store(lanes, value);
    float total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += lanes[lane];
    return total;
}

// Read `count` (at most kLanes) records of `fields` floats as one vector a field; missing lanes repeat the last record.
template <int fields>
static inline void load_records(const float* from, int count, V* out) {
    alignas(64) float lanes[fields][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
        const float* record = from + fields * (lane < count ? lane : count - 1);
        for (int field = 0; field < fields; ++field) lanes[field][lane] = record[field];
    }
    for (int field = 0; field < fields; ++field) out[field] = load(lanes[field]);
}

template <int fields>
static inline void store_records(float* to, int count, const V* values) {
    alignas(64) float lanes[fields][kLanes];
    for (int field = 0; field < fields; ++field) store(lanes[field], values[field]);
    for (int lane = 0; lane < count; ++lane)
        for (int field = 0; field < fields; ++field) to[fields * lane + field] = lanes[field][lane];
}

// The same for long records, by transposing; `out` has room for whole squares of kLanes vectors.
template <int fields>
static inline void load_rows(const float* from, int count, V* out) {
    constexpr int whole = fields / kLanes * kLanes, rest = fields - whole;
    for (int lane = 0; lane < kLanes; ++lane) {
        const float* record = from + fields * (lane < count ? lane : count - 1);
        for (int part = 0; part < whole; part += kLanes) out[part + lane] = load(record + part);
        if (rest) memcpy(&(out[whole + lane] = V{}), record + whole, sizeof(float) * rest);
    }
    for (int part = 0; part < fields; part += kLanes) transpose(out + part);
}

// `values` are turned over on the way.
template <int fields>
static inline void store_rows(float* to, int count, V* values) {
    constexpr int whole = fields / kLanes * kLanes, rest = fields - whole;
    for (int part = 0; part < fields; part += kLanes) transpose(values + part);
    for (int lane = 0; lane < count; ++lane) {
        float* record = to + fields * lane;
        for (int part = 0; part < whole; part += kLanes) store(record + part, values[part + lane]);
        if (rest) memcpy(record + whole, &values[whole + lane], sizeof(float) * rest);
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
