// A tile's 4x4 blocks of 4x4 pixels: where they lie, and copies between them and an image.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

#define DEJA_VU_EACH_VEC _Pragma("GCC unroll 4") for (int q = 0; q < kVecs; ++q)

static const float kColumn[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
static const float kRow[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};

static inline unsigned blocks_in_image(const TileJob& job) {
    unsigned live = 0;
    for (int b = 0; b < 16; ++b)
        if (job.x0 + 4 * (b & 3) < job.width && job.y0 + 4 * (b >> 2) < job.height) live |= 1u << b;
    return live;
}

// Where a block lies in the image, and how much of it: a block at the right or lower border may reach beyond.
struct BlockPlace {
    int x, y, columns, rows;
};

static inline BlockPlace place_of(const TileJob& job, int b) {
    const int x = job.x0 + 4 * (b & 3), y = job.y0 + 4 * (b >> 2), columns = job.width - x, rows = job.height - y;
    return {x, y, columns < 4 ? columns : 4, rows < 4 ? rows : 4};
}

// Copy a block between an image with `channels` interleaved numbers a pixel and one array of 16 pixels a channel.
template <int channels>
static inline void read_block(const float* image, int width, const BlockPlace& place, float (*out)[16]) {
    for (int r = 0; r < place.rows; ++r) {
        const float* row = image + channels * (static_cast<size_t>(place.y + r) * static_cast<size_t>(width) + static_cast<size_t>(place.x));
        for (int c = 0; c < place.columns; ++c)
            for (int k = 0; k < channels; ++k) out[k][4 * r + c] = row[channels * c + k];
    }
}

template <int channels>
static inline void write_pixels(float* image, int width, const BlockPlace& place, const float (*from)[16]) {
    for (int r = 0; r < place.rows; ++r) {
        float* row = image + channels * (static_cast<size_t>(place.y + r) * static_cast<size_t>(width) + static_cast<size_t>(place.x));
        if (__builtin_expect(place.columns == 4, 1)) {
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c)
                for (int k = 0; k < channels; ++k) row[channels * c + k] = from[k][4 * r + c];
            continue;
        }
        for (int c = 0; c < place.columns; ++c)
            for (int k = 0; k < channels; ++k) row[channels * c + k] = from[k][4 * r + c];
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
