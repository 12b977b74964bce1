// What a picture costs beside its target, and the gradient of that, over a run of pixels. Every pixel's three colors share its weights.
#pragma once
#include "api.h"
#include "kernels.h"
#include "simd.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

static inline float magnitude(float value) { return value < 0 ? -value : value; }

// Target and the first two sums of a run of pixels.
static void picture_forward(const DejaVuPicture& in, size_t begin, size_t end, double* sums) {
    const float r = in.background[0], g = in.background[1], b = in.background[2], delta = in.delta;
    double color = 0, coverage = 0;
    for (size_t p = begin; p < end; ++p) {
        const float cover = in.cover[p], rest = 1 - cover;
        const float *image = in.image + 3 * p, *rgb = in.rgb + 3 * p;
        const float target[3] = {image[0] * cover + r * rest, image[1] * cover + g * rest, image[2] * cover + b * rest};
        float cost = 0;
        for (int c = 0; c < 3; ++c) {
            const float size = magnitude(rgb[c] - target[c]);
            const float inner = size < delta ? size : delta;
            cost += inner * (size - 0.5f * inner);
        }
        color += in.color_weight[p] * cost;
        if (in.alpha) coverage += in.weight[p] * magnitude(in.alpha[p] - cover);
        if (in.target) memcpy(in.target + 3 * p, target, sizeof(target));
    }
    sums[0] = color;
    sums[1] = coverage;
}

// Weighted sum of (1 - similarity) / 2.
static void picture_similarity(const DejaVuPicture& in, size_t begin, size_t end, double* sums) {
    double total = 0;
    for (size_t p = begin; p < end; ++p) {
        const float* map = in.map + 3 * p;
        total += in.weight[p] * (1.5f - 0.5f * (map[0] + map[1] + map[2]));
    }
    sums[2] = total;
}

// Gradient of that by the similarity.
static void picture_spread(const DejaVuPicture& in, size_t begin, size_t end, double*) {
    for (size_t p = begin; p < end; ++p) {
        const float value = -0.5f * in.similarity_scale * in.weight[p];
        for (int c = 0; c < 3; ++c) in.v_map[3 * p + static_cast<size_t>(c)] = value;
    }
}

// Adds the gradient by color, and stores the one by coverage.
static void picture_backward(const DejaVuPicture& in, size_t begin, size_t end, double*) {
    for (size_t p = begin; p < end; ++p) {
        const float scale = in.color_scale * in.color_weight[p], over = in.alpha[p] - in.cover[p];
        for (size_t i = 3 * p; i < 3 * p + 3; ++i) {
            const float difference = in.rgb[i] - in.target[i];
            in.v_rgb[i] += scale * (difference < -in.delta ? -in.delta : difference > in.delta ? in.delta : difference);
        }
        in.v_alpha[p] = in.coverage_scale * in.weight[p] * (over > 0 ? 1.0f : over < 0 ? -1.0f : 0.0f);
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
