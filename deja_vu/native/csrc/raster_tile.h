// Compositing of one 16x16 tile and its gradient. Gaussians are sorted into lists for the tile's 4x4 pixel blocks, so that the
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

struct BlockGradient {
    alignas(64) float live[16];
    alignas(64) float behind[16];  // what the Gaussians not yet seen, background and alpha add to the loss, linearized
    alignas(64) float v_color[3][16];
    alignas(64) float v_depth[16];
};

static inline void open_block(const TileJob& job, int b, BlockGradient& s) {
    alignas(64) float rgb[3][16] = {}, v_alpha[1][16] = {}, depth[1][16] = {};
    const BlockPlace place = place_of(job, b);
    memset(s.v_color, 0, sizeof(s.v_color));
    memset(s.v_depth, 0, sizeof(s.v_depth));
    read_block<3>(job.v_rgb, job.width, place, s.v_color);
    read_block<3>(job.rgb, job.width, place, rgb);
    if (job.v_alpha) read_block<1>(job.v_alpha, job.width, place, v_alpha);
    if (job.v_depth) {
        read_block<1>(job.v_depth, job.width, place, &s.v_depth);
        read_block<1>(job.depth, job.width, place, depth);
    }
    DEJA_VU_EACH_VEC {
        const int at = q * kLanes;
        const I inside = (load(kColumn + at) < static_cast<float>(place.columns)) & (load(kRow + at) < static_cast<float>(place.rows));
        const V through = load(job.transmittance + 16 * b + at), alpha = 1.0f - through;
        V by_alpha = load(v_alpha[0] + at), behind = V{};
        for (int k = 0; k < 3; ++k) behind += load(s.v_color[k] + at) * load(rgb[k] + at);
        if (job.v_depth) {
            const I covered = alpha > 1e-10f;
            const V per_weight = covered ? load(s.v_depth + at) / (covered ? alpha : broadcast(1.0f)) : V{};  // depth is a quotient
            const V expected = load(depth[0] + at) * per_weight;
            store(s.v_depth + at, per_weight);
            behind += expected * alpha;
            by_alpha -= expected;
        }
        store(s.live + at, inside ? broadcast(1.0f) : V{});
        store(s.behind + at, behind - by_alpha * through);
    }
}

// Per Gaussian: d loss / d ln(alpha) of each pixel, and each pixel's weight. Rows of 16 pixels.
template <bool with_depth>
static inline void differentiate(const Splat& s, const V* px, const V* py, const BlockGradient& state, V* live, V* behind, float* row, float* weights) {
    DEJA_VU_EACH_VEC {
        const V raw = alpha_at(s, px[q], py[q]);
        V alpha = vmin(raw, broadcast(kAlphaMax));
        const V next = live[q] - alpha * live[q];
        alpha = next > kOpaque ? alpha : V{};
        const V weight = alpha * live[q];
        V shade = load(state.v_color[0] + q * kLanes) * s.color[0] + load(state.v_color[1] + q * kLanes) * s.color[1] +
                  load(state.v_color[2] + q * kLanes) * s.color[2];
        if (with_depth) shade += load(state.v_depth + q * kLanes) * s.depth;
        behind[q] -= weight * shade;
        const V v_alpha = live[q] * shade - behind[q] * reciprocal(1.0f - alpha);
        store(row + q * kLanes, raw > kAlphaMax ? V{} : alpha * v_alpha);
        store(weights + q * kLanes, weight);
        live[q] = next;
    }
}

// Rows of 16 pixels for kLanes Gaussians -> a vector of Gaussians for each pixel.
static inline void columns_of(const float (*rows)[16], V* columns) {
    for (int part = 0; part < kVecs; ++part) {
        for (int j = 0; j < kLanes; ++j) columns[part * kLanes + j] = load(rows[j] + part * kLanes);
        transpose(columns + part * kLanes);
    }
}

struct Group {
    alignas(64) float rows[kLanes][16], weights[kLanes][16];  // what `differentiate` writes
    alignas(64) float x[kLanes], y[kLanes], a[kLanes], b[kLanes], c[kLanes];  // center from the block's middle, and the quadratic form
};

// Sums over the block's pixels p of 1, g, g g', where g is the gradient of the quadratic form at the pixel. Moments of the
// pixels' offsets would do too, but turning them into these cancels for needles.
static inline void moments_of(const V* p, const Group& group, V* out) {
    V sum[4], first[4], second[4];
    for (int r = 0; r < 4; ++r) {
        const V outer = p[4 * r] + p[4 * r + 3], inner = p[4 * r + 1] + p[4 * r + 2];
        sum[r] = outer + inner;
        first[r] = 1.5f * (p[4 * r + 3] - p[4 * r]) + 0.5f * (p[4 * r + 2] - p[4 * r + 1]);
        second[r] = 2.25f * outer + 0.25f * inner;
    }
    const V m0 = (sum[0] + sum[3]) + (sum[1] + sum[2]);
    const V mx = (first[0] + first[3]) + (first[1] + first[2]);
    const V my = 1.5f * (sum[3] - sum[0]) + 0.5f * (sum[2] - sum[1]);
    const V mxx = (second[0] + second[3]) + (second[1] + second[2]);
    const V mxy = 1.5f * (first[3] - first[0]) + 0.5f * (first[2] - first[1]);
    const V myy = 2.25f * (sum[0] + sum[3]) + 0.25f * (sum[1] + sum[2]);
    const V xx = 2.0f * load(group.a), xy = load(group.b), yy = 2.0f * load(group.c);
    const V x = load(group.x), y = load(group.y);
    const V middle_x = -(xx * x + xy * y), middle_y = -(xy * x + yy * y);  // g at the block's middle
    const V gx = xx * mx + xy * my, gy = xy * mx + yy * my;                // what the offsets from it add
    out[0] = m0;
    out[1] = middle_x * m0 + gx;
    out[2] = middle_y * m0 + gy;
    const V lx = xx * mxx + xy * mxy, ly = xx * mxy + xy * myy, rx = xy * mxx + yy * mxy, ry = xy * mxy + yy * myy;
    out[3] = middle_x * (out[1] + gx) + lx * xx + ly * xy;
    out[4] = middle_x * out[2] + middle_y * gx + lx * xy + ly * yy;
    out[5] = middle_y * (out[2] + gy) + rx * xy + ry * yy;
}

template <bool with_depth>
static inline void backward_block(const Splat* local, const uint16_t* list, int length, float x0, float y0, BlockGradient& state, Group& group,
                                  float (*sums)[16]) {
    V px[kVecs], py[kVecs], live[kVecs], behind[kVecs];
    DEJA_VU_EACH_VEC {
        px[q] = load(kColumn + q * kLanes) + (x0 + 0.5f);
        py[q] = load(kRow + q * kLanes) + (y0 + 0.5f);
        live[q] = load(state.live + q * kLanes);
        behind[q] = load(state.behind + q * kLanes);
    }
    for (int begin = 0; begin < length; begin += kLanes) {
        const int count = length - begin < kLanes ? length - begin : kLanes;
        for (int j = 0; j < count; ++j) {
            const Splat& s = local[list[begin + j]];
            group.x[j] = s.x - (x0 + 2.0f);
            group.y[j] = s.y - (y0 + 2.0f);
            group.a[j] = s.a;
            group.b[j] = s.b;
            group.c[j] = s.c;
            differentiate<with_depth>(s, px, py, state, live, behind, group.rows[j], group.weights[j]);
            if (j % kGroupRun == kGroupRun - 1) DEJA_VU_EACH_VEC live[q] = keep_live(live[q]);
        }
        V columns[16], out[16] = {};
        columns_of(group.rows, columns);
        moments_of(columns, group, out);
        columns_of(group.weights, columns);
        for (int p = 0; p < 16; ++p) {
            for (int k = 0; k < 3; ++k) out[6 + k] += columns[p] * state.v_color[k][p];
            if (with_depth) out[9] += columns[p] * state.v_depth[p];
        }
        for (int part = 0; part * kLanes < kSlot + with_depth; ++part) {
            transpose(out + part * kLanes);
            for (int j = 0; j < count; ++j) {
                float* sum = sums[list[begin + j]] + part * kLanes;
                store(sum, load(sum) + out[part * kLanes + j]);
            }
        }
    }
    DEJA_VU_EACH_VEC {
        store(state.live + q * kLanes, live[q]);
        store(state.behind + q * kLanes, behind[q]);
    }
}

// The first of a patch's tiles that a Gaussian reaches writes its slot, the others add: one thread visits them in order.
template <int size>
static inline void write_slots(const TileJob& job, int begin, int count, const float (*sums)[16]) {
    const int x = job.x0 / kTile, y = job.y0 / kTile;
    for (int k = 0; k < count; ++k) {
        const uint32_t splat = job.entries[begin + k];
        const TileRect r = job.rects[splat];
        const int row = first_patch(y) - first_patch(r.y0), column = first_patch(x) - first_patch(r.x0);
        float* slot = job.slots + size * (job.slot_begin[splat] + static_cast<size_t>(row * patches_of(r.x0, r.x1) + column));
        const bool first = (x == r.x0 || x % kPatch == 0) && (y == r.y0 || y % kPatch == 0);
        for (int i = 0; i < size; ++i) slot[i] = first ? sums[k][i] : slot[i] + sums[k][i];
    }
}

template <bool with_depth>
static inline void differentiate_tile(const TileJob& job) {
    alignas(64) Splat local[kChunk];
    alignas(64) float sums[kChunk][16];
    alignas(64) uint16_t masks[kChunk + 16];
    BlockGradient state[16];
    ChunkLists lists;
    Group group;  // lanes beyond a list's end hold an earlier one's numbers, which nobody reads
    memset(&group, 0, sizeof(group));
    const unsigned drawn = blocks_in_image(job);
    uint32_t furthest = 0;
    for (int b = 0; b < 16; ++b) {
        if (!(drawn >> b & 1)) continue;
        open_block(job, b, state[b]);
        if (job.last[b] > furthest) furthest = job.last[b];
    }
    for (int begin = 0; begin < job.entry_count; begin += kChunk) {
        const int count = job.entry_count - begin < kChunk ? job.entry_count - begin : kChunk;
        memset(sums, 0, sizeof(sums[0]) * static_cast<size_t>(count));
        if (static_cast<uint32_t>(begin) < furthest) {
            copy_chunk(job, begin, count, local);
            memcpy(masks, job.block_masks + begin, sizeof(uint16_t) * static_cast<size_t>(count));
            build_lists(masks, count, lists);
            for (int b = 0; b < 16; ++b) {
                int length = lists.length[b];
                while (length && static_cast<uint32_t>(begin + lists.index[b][length - 1]) >= job.last[b]) --length;
                if (!length || !(drawn >> b & 1)) continue;
                const float x0 = static_cast<float>(job.x0 + 4 * (b & 3)), y0 = static_cast<float>(job.y0 + 4 * (b >> 2));
                backward_block<with_depth>(local, lists.index[b], length, x0, y0, state[b], group, sums);
            }
        }
        write_slots<kSlot + with_depth>(job, begin, count, sums);
    }
}

static void tile_backward(const TileJob& job) {
    if (!job.entry_count) return;
    if (job.v_depth)
        differentiate_tile<true>(job);
    else
        differentiate_tile<false>(job);
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
