// Structural similarity with an 11-tap Gaussian window (sigma 1.5) and reflected borders, and its gradient by the first image.
// Images are [H, W, C]; a row is a plain vector of W * C floats whose taps lie C apart, so channels need no separation.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

constexpr int kReach = 5;
static const float kWindow[11] = {0.00102838f, 0.00759876f, 0.03600077f, 0.10936069f, 0.21300553f, 0.26601172f,
                                  0.21300553f, 0.10936069f, 0.03600077f, 0.00759876f, 0.00102838f};
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

static inline int reflect_index(int at, int size) {
    if (at < 0) at = -at;
    return at >= size ? 2 * (size - 1) - at : at;
}

// The first `count` lanes, at most all; the rest are zero, or left alone.
static inline V load_partial(const float* from, int count) {
    if (__builtin_expect(count >= kLanes, 1)) return load(from);
    V out = V{};
    memcpy(&out, from, sizeof(float) * static_cast<size_t>(count));
    return out;
}
static inline void store_partial(float* to, V value, int count) {
    if (__builtin_expect(count >= kLanes, 1)) return store(to, value);
    memcpy(to, &value, sizeof(float) * static_cast<size_t>(count));
}

// Window means of the five products for one row, before the horizontal pass.
static void blur_columns(const SsimJob& job, int row, float* const* out) {
    const int length = job.width * job.channels;
    const float *a[11], *b[11];
    for (int k = 0; k < 11; ++k) {
        const size_t at = static_cast<size_t>(reflect_index(row + k - kReach, job.height)) * static_cast<size_t>(length);
        a[k] = job.a + at;
        b[k] = job.b + at;
    }
    for (int i = 0; i < length; i += kLanes) {
        const int count = length - i;
        V sums[5] = {};
        for (int k = 0; k < 11; ++k) {
            const V p = load_partial(a[k] + i, count), q = load_partial(b[k] + i, count);
            const V wp = kWindow[k] * p, wq = kWindow[k] * q;
            sums[0] += wp;
            sums[1] += wq;
            sums[2] += wp * p;
            sums[3] += wq * q;
            sums[4] += wp * q;
        }
        for (int m = 0; m < 5; ++m) store(out[m] + i, sums[m]);  // rows have room for a whole vector at their end
    }
}

static void reflect_ends(float* row, int width, int channels) {
    for (int i = 1; i <= kReach; ++i)
        for (int c = 0; c < channels; ++c) {
            row[-i * channels + c] = row[i * channels + c];
            row[(width - 1 + i) * channels + c] = row[(width - 1 - i) * channels + c];
        }
}

static inline V blur_at(const float* row, int i, int channels) {
    const float* p = row + i;
    V sum = kWindow[5] * load(p);
    for (int k = 1; k <= kReach; ++k) sum += kWindow[5 + k] * (load(p - k * channels) + load(p + k * channels));
    return sum;
}

// scratch: 5 * ((width + 10) * channels + 64) floats.
static void ssim_forward(const SsimJob& job, int row_begin, int row_end, float* scratch) {
    const int length = job.width * job.channels, stride = (job.width + 2 * kReach) * job.channels + 64;
    float* rows[5];
    for (int m = 0; m < 5; ++m) rows[m] = scratch + m * stride + kReach * job.channels;
    for (int y = row_begin; y < row_end; ++y) {
        blur_columns(job, y, rows);
        for (int m = 0; m < 5; ++m) reflect_ends(rows[m], job.width, job.channels);
        const size_t at = static_cast<size_t>(y) * static_cast<size_t>(length);
        for (int i = 0; i < length; i += kLanes) {
            const V ma = blur_at(rows[0], i, job.channels), mb = blur_at(rows[1], i, job.channels);
            const V raw_a = blur_at(rows[2], i, job.channels) - ma * ma, raw_b = blur_at(rows[3], i, job.channels) - mb * mb;
            const V var_a = vmax(raw_a, V{}), var_b = vmax(raw_b, V{}), cov = blur_at(rows[4], i, job.channels) - ma * mb;
            const V a1 = 2.0f * ma * mb + kC1, a2 = 2.0f * cov + kC2, b1 = ma * ma + mb * mb + kC1, b2 = var_a + var_b + kC2;
            const V scale = 1.0f / (b1 * b2), value = a1 * a2 * scale;
            store_partial(job.map + at + i, value, length - i);
            if (!job.d_mean) continue;
            const V by_square = raw_a >= 0.0f ? -value * b1 * scale : V{};
            const V by_product = 2.0f * a1 * scale;
            const V by_mean = 2.0f * (mb * (a2 - a1) * scale - ma * (value * b2 * scale + by_square));
            store_partial(job.d_mean + at + i, by_mean, length - i);
            store_partial(job.d_square + at + i, by_square, length - i);
            store_partial(job.d_product + at + i, by_product, length - i);
        }
    }
}

// How much of row p + (j - 5) reaches row p by the window and its reflections: column p of the blur's matrix.
static void adjoint_weights(int p, int size, float* weights) {
    for (int j = 0; j < 11; ++j) {
        const int from = p + j - kReach;
        weights[j] = 0;
        if (from < 0 || from >= size) continue;
        weights[j] = kWindow[j];
        if (p > 0 && from + p <= kReach) weights[j] += kWindow[kReach + from + p];
        const int mirrored = 2 * (size - 1) - p - from;
        if (p < size - 1 && mirrored <= kReach) weights[j] += kWindow[kReach + mirrored];
    }
}

// Take back what a reflected border handed out.
static void fold_ends(float* row, int width, int channels) {
    for (int i = 1; i <= kReach; ++i)
        for (int c = 0; c < channels; ++c) {
            row[i * channels + c] += row[-i * channels + c];
            row[(width - 1 - i) * channels + c] += row[(width - 1 + i) * channels + c];
        }
}

// scratch: 6 * ((width + 20) * channels + 64) floats.
static void ssim_backward(const SsimJob& job, int row_begin, int row_end, float* scratch) {
    const int channels = job.channels, length = job.width * channels, border = kReach * channels, stride = length + 4 * border + 64;
    const float* maps[3] = {job.d_mean, job.d_square, job.d_product};
    memset(scratch, 0, sizeof(float) * static_cast<size_t>(6 * stride));  // ten pixels of zeros stay on both sides of a row
    float *tall[3], *full[3];
    for (int m = 0; m < 3; ++m) {
        tall[m] = scratch + m * stride + 2 * border;
        full[m] = scratch + (3 + m) * stride + 2 * border;
    }
    for (int y = row_begin; y < row_end; ++y) {
        float weights[11];
        adjoint_weights(y, job.height, weights);
        const int first = y < kReach ? kReach - y : 0, stop = y + kReach >= job.height ? kReach + job.height - y : 11;
        for (int i = 0; i < length; i += kLanes) {
            V totals[3] = {};
            for (int k = first; k < stop; ++k) {
                const size_t from = static_cast<size_t>(y + k - kReach) * static_cast<size_t>(length) + static_cast<size_t>(i);
                const V upstream = weights[k] * load_partial(job.v_map + from, length - i);
                for (int m = 0; m < 3; ++m) totals[m] += upstream * load_partial(maps[m] + from, length - i);
            }
            for (int m = 0; m < 3; ++m) store_partial(tall[m] + i, totals[m], length - i);
        }
        for (int m = 0; m < 3; ++m) {
            for (int i = -border; i < length + border; i += kLanes) store(full[m] + i, blur_at(tall[m], i, channels));
            fold_ends(full[m], job.width, channels);
        }
        const size_t at = static_cast<size_t>(y) * static_cast<size_t>(length);
        for (int i = 0; i < length; i += kLanes) {
            const V a = load_partial(job.a + at + i, length - i), b = load_partial(job.b + at + i, length - i);
            store_partial(job.v_a + at + i, load(full[0] + i) + 2.0f * a * load(full[1] + i) + b * load(full[2] + i), length - i);
        }
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
