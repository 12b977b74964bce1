// Compositing of one 16x16 tile. Gaussians are sorted into lists for the tile's 4x4 pixel blocks, so that the
// inner loop runs over one block's list with the block's state in registers.
#pragma once
#include "kernels.h"
#include "simd.h"
#include "raster_block.h"
#include "raster_project.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

constexpr int kChunk = 256;  // entries of a tile looked at together
constexpr float kAlphaMax = 0.999f;
constexpr float kOpaque = 1e-4f;  // a pixel stops before its transmittance falls to this

struct ChunkLists {
    alignas(64) uint16_t index[16][kChunk + 32];
    int length[16];
};

// Which of the tile's blocks hold a pixel center's rectangle that the ellipse alpha >= 1/255 reaches (exact but for rounding,
// which is taken in): the minimum of a convex quadratic over a rectangle lies at the center or on one of the two facing edges.
static inline unsigned blocks_touched(const Splat& s, float x0, float y0) {
    unsigned bits = 0;
    const V limit = broadcast(s.log2_opacity - kLog2AlphaMin + 1e-3f);
    for (int q = 0; q < kVecs; ++q) {
        const V left = 4.0f * load(kColumn + q * kLanes) + (x0 + 0.5f - s.x), top = 4.0f * load(kRow + q * kLanes) + (y0 + 0.5f - s.y);
        const V right = left + 3.0f, bottom = top + 3.0f;
        const V edge_x = vclamp(V{}, left, right), edge_y = vclamp(V{}, top, bottom);
        const V y = vclamp(s.slope_y * edge_x, top, bottom), x = vclamp(s.slope_x * edge_y, left, right);
        const V first = edge_x * (s.a * edge_x + s.b * y) + s.c * y * y;
        const V second = x * (s.a * x + s.b * edge_y) + s.c * edge_y * edge_y;
        bits |= mask_bits(vmin(first, second) <= limit) << (q * kLanes);
    }
    return bits;
}

static inline void build_lists(const uint16_t* masks, int count, ChunkLists& lists) {
#if DEJA_VU_LANES == 16
    int length[16] = {};
    for (int k = 0; k < count; k += 16) {
        const int left = count - k;
        const __mmask16 there = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
        const __m512i mask = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(masks + k)));
        const __m512i ids = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(k));
        for (int b = 0; b < 16; ++b) {
            const __mmask16 hit = _mm512_mask_test_epi32_mask(there, mask, _mm512_set1_epi32(1 << b));
            const __m256i packed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(hit, ids));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(lists.index[b] + length[b]), packed);
            length[b] += __builtin_popcount(hit);
        }
    }
    memcpy(lists.length, length, sizeof(length));
#else
    for (int b = 0; b < 16; ++b) {
        int length = 0;
        for (int k = 0; k < count; ++k) {
            lists.index[b][length] = static_cast<uint16_t>(k);
            length += (masks[k] >> b) & 1;
        }
        lists.length[b] = length;
    }
#endif
}

// Opacity times falloff; zero below 1/255, not yet clamped from above.
static inline V alpha_at(const Splat& s, V px, V py) {
    const V dx = px - s.x, dy = py - s.y;
    const V power = s.log2_opacity - dx * (s.a * dx + s.b * dy) - s.c * dy * dy;
    return exp2_above(power, kLog2AlphaMin);
}

static inline void copy_chunk(const TileJob& job, int begin, int count, Splat* local) {
    constexpr int ahead = 12;
    for (int k = 0; k < count; ++k) {
        if (begin + k + ahead < job.entry_count) __builtin_prefetch(job.splats + job.entries[begin + k + ahead]);
        memcpy(local + k, job.splats + job.entries[begin + k], sizeof(Splat));
    }
}

struct BlockState {
    alignas(64) float live[16];     // product of 1 - alpha; 0 for pixels outside
    alignas(64) float through[16];  // transmittance: the product before the pixel stopped
    alignas(64) float color[3][16];
    alignas(64) float depth[16];
};

static inline void open_block(const TileJob& job, int b, BlockState& s) {
    const BlockPlace place = place_of(job, b);
    DEJA_VU_EACH_VEC {
        const V column = load(kColumn + q * kLanes), row = load(kRow + q * kLanes);
        const I inside = (column < static_cast<float>(place.columns)) & (row < static_cast<float>(place.rows));
        store(s.live + q * kLanes, inside ? broadcast(1.0f) : V{});
        store(s.through + q * kLanes, broadcast(1.0f));
        for (int k = 0; k < 3; ++k) store(s.color[k] + q * kLanes, V{});
        store(s.depth + q * kLanes, V{});
    }
}

// A pixel's product of 1 - alpha may run on after it stopped: it can only fall, so that the comparison that stops the pixel holds for
// good, and nothing waits for it. Every eighth time it is set to 0, long before it would be a slow denormal number.
constexpr int kRun = 8, kGroupRun = kLanes < kRun ? kLanes : kRun;
static inline V keep_live(V live) { return live > kOpaque ? live : V{}; }

// Composite a list front to back. Returns how much of the list was used; less than `length` if every pixel stopped.
static inline int composite(const Splat* local, const uint16_t* list, int length, float x0, float y0, BlockState& state) {
    V px[kVecs], py[kVecs], live[kVecs], through[kVecs], red[kVecs], green[kVecs], blue[kVecs], depth[kVecs];
    DEJA_VU_EACH_VEC {
        px[q] = load(kColumn + q * kLanes) + (x0 + 0.5f);
        py[q] = load(kRow + q * kLanes) + (y0 + 0.5f);
        live[q] = load(state.live + q * kLanes);
        through[q] = load(state.through + q * kLanes);
        red[q] = load(state.color[0] + q * kLanes);
        green[q] = load(state.color[1] + q * kLanes);
        blue[q] = load(state.color[2] + q * kLanes);
        depth[q] = load(state.depth + q * kLanes);
    }
    int k = 0;
    while (k < length) {
        const int stop = k + kRun < length ? k + kRun : length;
        for (; k < stop; ++k) {
            const Splat& s = local[list[k]];
            DEJA_VU_EACH_VEC {
                const V alpha = vmin(alpha_at(s, px[q], py[q]), broadcast(kAlphaMax));
                const V next = live[q] - alpha * live[q];
                const I goes_on = next > kOpaque;
                const V weight = goes_on ? alpha * live[q] : V{};
                live[q] = next;
                through[q] = goes_on ? next : through[q];
                red[q] += weight * s.color[0];
                green[q] += weight * s.color[1];
                blue[q] += weight * s.color[2];
                depth[q] += weight * s.depth;
            }
        }
        unsigned going = 0;
        DEJA_VU_EACH_VEC {
            live[q] = keep_live(live[q]);
            going |= mask_bits(live[q] > 0.0f);
        }
        if (!going) break;
    }
    DEJA_VU_EACH_VEC {
        store(state.live + q * kLanes, live[q]);
        store(state.through + q * kLanes, through[q]);
        store(state.color[0] + q * kLanes, red[q]);
        store(state.color[1] + q * kLanes, green[q]);
        store(state.color[2] + q * kLanes, blue[q]);
        store(state.depth + q * kLanes, depth[q]);
    }
    unsigned going = 0;
    DEJA_VU_EACH_VEC going |= mask_bits(live[q] > 0.0f);
    return going ? length + 1 : k;
}

static inline void write_block(const TileJob& job, int b, BlockState& s) {
    DEJA_VU_EACH_VEC {
        const V through = load(s.through + q * kLanes), alpha = 1.0f - through;
        if (job.transmittance) store(job.transmittance + 16 * b + q * kLanes, through);
        store(s.live + q * kLanes, alpha);
        for (int k = 0; k < 3; ++k) store(s.color[k] + q * kLanes, load(s.color[k] + q * kLanes) + through * job.background[k]);
        store(s.depth + q * kLanes, load(s.depth + q * kLanes) / vmax(alpha, broadcast(1e-10f)));
    }
    const BlockPlace place = place_of(job, b);
    write_pixels<3>(job.rgb, job.width, place, s.color);
    write_pixels<1>(job.alpha, job.width, place, &s.live);
    write_pixels<1>(job.depth, job.width, place, &s.depth);
}

static void tile_forward(const TileJob& job) {
    alignas(64) Splat local[kChunk];
    BlockState state[16];
    ChunkLists lists;
    unsigned live = blocks_in_image(job);
    const unsigned drawn = live;
    for (int b = 0; b < 16; ++b) {
        if (job.last) job.last[b] = static_cast<uint32_t>(job.entry_count);
        if (drawn >> b & 1) open_block(job, b, state[b]);
    }
    int begin = 0;
    for (; begin < job.entry_count && live; begin += kChunk) {
        const int count = job.entry_count - begin < kChunk ? job.entry_count - begin : kChunk;
        copy_chunk(job, begin, count, local);
        for (int k = 0; k < count; ++k)
            job.block_masks[begin + k] = static_cast<uint16_t>(blocks_touched(local[k], static_cast<float>(job.x0), static_cast<float>(job.y0)) & live);
        build_lists(job.block_masks + begin, count, lists);
        for (int b = 0; b < 16; ++b) {
            if (!(live >> b & 1) || !lists.length[b]) continue;
            const float x0 = static_cast<float>(job.x0 + 4 * (b & 3)), y0 = static_cast<float>(job.y0 + 4 * (b >> 2));
            const int used = composite(local, lists.index[b], lists.length[b], x0, y0, state[b]);
            if (used > lists.length[b]) continue;
            live &= ~(1u << b);
            job.last[b] = static_cast<uint32_t>(begin + lists.index[b][used - 1] + 1);
        }
    }
    for (; begin < job.entry_count; ++begin) job.block_masks[begin] = 0;
    for (int b = 0; b < 16; ++b)
        if (drawn >> b & 1) write_block(job, b, state[b]);
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
