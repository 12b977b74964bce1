// Gradient of one 16x16 tile, from what its compositing has left: pixel blocks are gone through front to back again, a Gaussian's
// sums over a block's pixels are made of the moments of the pixels' derivatives.
#pragma once
#include "raster_tile.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

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
