// Video signals to display sRGB: chroma raised to the picture's grid, a transfer table, the system's gain, a matrix, a table of sRGB.
#pragma once
#include "api.h"
#include "kernels.h"
#include "simd.h"
#if defined(__SSSE3__)
#include <tmmintrin.h>
#endif

namespace deja_vu {
namespace DEJA_VU_VARIANT {

static inline V lookup(const float* table, I at) {
#if DEJA_VU_LANES == 16
    return (V)_mm512_i32gather_ps((__m512i)at, table, 4);
#elif DEJA_VU_LANES == 8
    return (V)_mm256_i32gather_ps(table, (__m256i)at, 4);
#else
    V out;
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = table[at[lane]];
    return out;
#endif
}

// Of bytes; three more are read behind the last one.
static inline I lookup(const uint8_t* table, I at) {
#if DEJA_VU_LANES == 16
    return (I)_mm512_i32gather_epi32((__m512i)at, table, 1) & 255;
#elif DEJA_VU_LANES == 8
    return (I)_mm256_i32gather_epi32(reinterpret_cast<const int*>(table), (__m256i)at, 1) & 255;
#else
    I out;
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = table[at[lane]];
    return out;
#endif
}

// The root of what is not negative, to 12 bits, of which a table of as many entries asks for no more.
static inline V rough_root(V value) {
    const V above = vmax(value, broadcast(1e-12f));
#if DEJA_VU_LANES == 16
    return above * (V)_mm512_rsqrt14_ps((__m512)above);
#elif DEJA_VU_LANES == 8
    return above * (V)_mm256_rsqrt_ps((__m256)above);
#else
    return vsqrt(above);
#endif
}

// Three bytes of each lane, one after the other. `room`: pixels up to the end of the row, which is not written beyond.
static inline void store_pixels(uint8_t* to, I packed, int room) {
    int32_t pixels[kLanes];
    memcpy(pixels, &packed, sizeof(pixels));
#if defined(__SSSE3__)
    if (room > kLanes + 1) {  // sixteen bytes a store, of which the next pixels overwrite four
        const __m128i order = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
        for (int lane = 0; lane < kLanes; lane += 4) {
            const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels + lane));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 3 * lane), _mm_shuffle_epi8(four, order));
        }
        return;
    }
#endif
    for (int lane = 0; lane < (room < kLanes ? room : kLanes); ++lane) memcpy(to + 3 * lane, &pixels[lane], 3);
}

// One row of samples as they are stored, as floats.
static inline void widen_row(const void* plane, int64_t step, int row, int count, bool wide, float* out) {
    const char* begin = static_cast<const char*>(plane) + step * row;
    if (wide) {
        const uint16_t* from = reinterpret_cast<const uint16_t*>(begin);
        for (int x = 0; x < count; ++x) out[x] = static_cast<float>(from[x]);
    } else {
        const uint8_t* from = reinterpret_cast<const uint8_t*>(begin);
        for (int x = 0; x < count; ++x) out[x] = static_cast<float>(from[x]);
    }
}

// One row of a chroma plane on the picture's grid. Samples lie on every second column, and midway between two rows.
static void raise_row(const DejaVuColor& in, const void* plane, int64_t step, int row, float* low, float* other, float* out) {
    const int columns = in.half_columns ? (in.width + 1) / 2 : in.width;
    if (in.half_rows) {
        const int rows = (in.height + 1) / 2, near = row / 2;
        int far = row % 2 ? near + 1 : near - 1;
        far = far < 0 ? 0 : far > rows - 1 ? rows - 1 : far;
        widen_row(plane, step, near, columns, in.wide, low);
        widen_row(plane, step, far, columns, in.wide, other);
        for (int x = 0; x < columns; ++x) low[x] = 0.75f * low[x] + 0.25f * other[x];
    } else {
        widen_row(plane, step, row, columns, in.wide, low);
    }
    if (!in.half_columns) {
        memcpy(out, low, sizeof(float) * static_cast<size_t>(in.width));
        return;
    }
    low[columns] = low[columns - 1];
    for (int x = 0; x < columns; ++x) {
        out[2 * x] = low[x];
        out[2 * x + 1] = 0.5f * (low[x] + low[x + 1]);
    }
}

// Pixels that pass through one step after the other: short loops, so that the processor works on several rounds at once.
constexpr int kStretch = 256;

// The light of a run of signals.
static inline void light_of(const DejaVuColor& in, const float* luma, const float* blue, const float* red, float (*light)[kStretch]) {
    const float* table = in.linear;
    const V y_scale = broadcast(in.luma_scale * in.signal_scale), c_scale = broadcast(in.chroma_scale * in.signal_scale);
    const V y_offset = broadcast(in.luma_offset * in.signal_scale + 0.5f), c_offset = broadcast(in.chroma_offset * in.signal_scale);
    const V red_v = broadcast(in.red_v), green_u = broadcast(in.green_u), green_v = broadcast(in.green_v), blue_u = broadcast(in.blue_u);
    const V none = broadcast(0.0f), last = broadcast(static_cast<float>(kToneTable - 1));
    for (int x = 0; x < kStretch; x += kLanes) {
        const V y = load(luma + x) * y_scale + y_offset, u = load(blue + x) * c_scale + c_offset, v = load(red + x) * c_scale + c_offset;
        store(light[0] + x, lookup(table, to_int(vclamp(y + red_v * v, none, last))));
        store(light[1] + x, lookup(table, to_int(vclamp(y + green_u * u + green_v * v, none, last))));
        store(light[2] + x, lookup(table, to_int(vclamp(y + blue_u * u, none, last))));
    }
}

// What the display makes of the scene's light: a power of its luminance.
static inline void apply_gain(const DejaVuColor& in, float (*light)[kStretch]) {
    const V red = broadcast(in.weights[0]), green = broadcast(in.weights[1]), blue = broadcast(in.weights[2]);
    const V power = broadcast(in.gain_power), scale = broadcast(in.gain), least = broadcast(1e-7f);
    for (int x = 0; x < kStretch; x += kLanes) {
        const V r = load(light[0] + x), g = load(light[1] + x), b = load(light[2] + x);
        const V gain = exp2_of(log2_of(vmax(red * r + green * g + blue * b, least)) * power) * scale;
        store(light[0] + x, r * gain);
        store(light[1] + x, g * gain);
        store(light[2] + x, b * gain);
    }
}

// One of red, green and blue from 0 to 255.
static inline void encode(const DejaVuColor& in, const float* mix, const float (*light)[kStretch], int32_t* out) {
    const uint8_t* table = in.display;
    const V red = broadcast(mix[0]), green = broadcast(mix[1]), blue = broadcast(mix[2]);
    const V scale = broadcast(in.display_scale), half = broadcast(0.5f), last = broadcast(static_cast<float>(kToneTable - 1));
    for (int x = 0; x < kStretch; x += kLanes) {
        const V mixed = red * load(light[0] + x) + green * load(light[1] + x) + blue * load(light[2] + x);
        const I shown = lookup(table, to_int(vmin(rough_root(mixed) * scale + half, last)));
        memcpy(out + x, &shown, sizeof(I));
    }
}

// scratch: five rows of the width and 320 floats more.
static void color_rows(const DejaVuColor& in, int row_begin, int row_end, float* scratch) {
    const int stride = in.width + kStretch + 64;
    float *luma = scratch, *blue = luma + stride, *red = blue + stride, *low = red + stride, *other = low + stride;
    for (int x = in.width; x < stride; ++x) luma[x] = blue[x] = red[x] = 0.0f;
    float light[3][kStretch];
    int32_t shown[3][kStretch];
    for (int row = row_begin; row < row_end; ++row) {
        widen_row(in.luma, in.luma_step, row, in.width, in.wide, luma);
        raise_row(in, in.blue, in.chroma_step, row, low, other, blue);
        raise_row(in, in.red, in.chroma_step, row, low, other, red);
        uint8_t* out = in.rgb + static_cast<size_t>(row) * static_cast<size_t>(in.width) * 3;
        for (int begin = 0; begin < in.width; begin += kStretch) {
            light_of(in, luma + begin, blue + begin, red + begin, light);
            if (in.gain > 0) apply_gain(in, light);
            for (int channel = 0; channel < 3; ++channel) encode(in, in.matrix + 3 * channel, light, shown[channel]);
            const int count = in.width - begin < kStretch ? in.width - begin : kStretch;
            for (int x = 0; x < count; x += kLanes) {
                I r, g, b;
                memcpy(&r, shown[0] + x, sizeof(I));
                memcpy(&g, shown[1] + x, sizeof(I));
                memcpy(&b, shown[2] + x, sizeof(I));
                store_pixels(out + 3 * (begin + x), r | (g << 8) | (b << 16), in.width - begin - x);
            }
        }
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
