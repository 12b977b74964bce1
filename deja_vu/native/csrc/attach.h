// Attach and activate, kLanes texels at a time: sum the raw map, carry it with the posed triangle, and the gradient of that.
// Raw channels: position 3, log_scale 3, rotation 3 (quaternion with w = 1), opacity_logit 1, color 3.
#pragma once
#include "api.h"
#include "kernels.h"
#include "simd.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

constexpr int kParts = kAttachRow / kLanes;  // vectors that hold one padded row

struct TexelFrame {
    V tangent[3], bitangent[3], normal[3];
};

// e^x; overflows to infinity and keeps NaN, so that a diverged training is found out.
static inline V exp_of(V x) {
    const V p = x * 1.4426950408889634f;
    const V finite = exp2_of(vclamp(p, broadcast(-126.0f), broadcast(127.999f)));
    const V value = p >= 128.0f ? broadcast(__builtin_inff()) : finite;
    return x == x ? value : x;
}

static inline V dot3(const V* a, const V* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static inline void cross3(const V* a, const V* b, V* out) {
    for (int i = 0; i < 3; ++i) out[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
}

static inline void normalize3(V* v) {
    const V inverse = 1.0f / vmax(vsqrt(dot3(v, v)), broadcast(1e-12f));
    for (int i = 0; i < 3; ++i) v[i] *= inverse;
}

// Hamilton product wxyz, of the conjugate of a if asked.
static inline void multiply(const V* a, const V* b, bool conjugate, V* out) {
    const V w = a[0], x = conjugate ? -a[1] : a[1], y = conjugate ? -a[2] : a[2], z = conjugate ? -a[3] : a[3];
    out[0] = w * b[0] - x * b[1] - y * b[2] - z * b[3];
    out[1] = w * b[1] + x * b[0] + y * b[3] - z * b[2];
    out[2] = w * b[2] - x * b[3] + y * b[0] + z * b[1];
    out[3] = w * b[3] + x * b[2] - y * b[1] + z * b[0];
}

// Unit quaternion of the frame by the largest of its four squares, the first of equal ones.
static inline void frame_quaternion(const TexelFrame& f, V* q) {
    const V *t = f.tangent, *b = f.bitangent, *n = f.normal;
    const V wx = b[2] - n[1], wy = n[0] - t[2], wz = t[1] - b[0], xy = t[1] + b[0], xz = n[0] + t[2], yz = b[2] + n[1];
    const V rows[4][4] = {{1.0f + t[0] + b[1] + n[2], wx, wy, wz},
                          {wx, 1.0f + t[0] - b[1] - n[2], xy, xz},
                          {wy, xy, 1.0f - t[0] + b[1] - n[2], yz},
                          {wz, xz, yz, 1.0f - t[0] - b[1] + n[2]}};
    V largest = rows[0][0];
    for (int i = 0; i < 4; ++i) q[i] = rows[0][i];
    for (int row = 1; row < 4; ++row) {
        const I better = rows[row][row] > largest;
        largest = better ? rows[row][row] : largest;
        for (int i = 0; i < 4; ++i) q[i] = better ? rows[row][i] : q[i];
    }
    const V inverse = 1.0f / vsqrt(dot3(q, q) + q[3] * q[3]);
    for (int i = 0; i < 4; ++i) q[i] *= inverse;
}

static inline void row_to_parts(const float* row, V* parts) {
    for (int part = 0; part < kParts; ++part) parts[part] = load(row + part * kLanes);
}

// The 13 channels of a packed row; the row's memory may end there.
static inline void packed_to_parts(const float* row, bool last, V* parts) {
    if (!last) return row_to_parts(row, parts);
    float padded[kAttachRow] = {};
    memcpy(padded, row, kAttachChannels * sizeof(float));
    row_to_parts(padded, parts);
}

// Rows (a texel's channels) to fields (a channel of kLanes texels), or back: the same exchange.
static inline void rows_to_fields(V (*rows)[kParts], V* fields) {
    for (int part = 0; part < kParts; ++part) {
        for (int lane = 0; lane < kLanes; ++lane) fields[part * kLanes + lane] = rows[lane][part];
        transpose(fields + part * kLanes);
    }
}

// Blend the blendmaps for the coarse texels [begin, end) of every image, times the gains, into padded rows.
static void attach_blend(const DejaVuAttach& in, const AttachScratch& scratch, int begin, int end, int worker) {
    const size_t plane = static_cast<size_t>(in.coarse_count) * kAttachChannels, first = static_cast<size_t>(begin) * kAttachChannels;
    const int floats = (end - begin) * kAttachChannels;
    float* sums = scratch.worker + static_cast<size_t>(worker) * scratch.worker_floats;
    for (int image = 0; image < in.images; ++image) {
        float* sum = sums + image * kAttachChunk;
        for (int i = 0; i < floats; ++i) sum[i] = 0;
    }
    for (int map = 0; map < in.maps; ++map) {
        const float* values = in.blendmaps + static_cast<size_t>(map) * plane + first;
        for (int image = 0; image < in.images; ++image) {
            const float weight = in.weights[image * in.maps + map];
            float* sum = sums + image * kAttachChunk;
            for (int i = 0; i < floats; ++i) sum[i] += weight * values[i];
        }
    }
    V gains[kParts], row[kParts];
    packed_to_parts(in.gains, true, gains);
    for (int image = 0; image < in.images; ++image)
        for (int c = begin; c < end; ++c) {
            float* out = scratch.coarse + (static_cast<size_t>(image) * static_cast<size_t>(in.coarse_count) + static_cast<size_t>(c)) * kAttachRow;
            row_to_parts(sums + image * kAttachChunk + (c - begin) * kAttachChannels, row);
            for (int part = 0; part < kParts; ++part) store(out + part * kLanes, row[part] * gains[part]);
        }
}

// The raw map of kLanes texels: base + gains * rectification + the coarse blend through its taps.
static inline void raw_fields(const DejaVuAttach& in, const AttachScratch& scratch, int image, int begin, int count, const V* gains, V* fields) {
    V rows[kLanes][kParts], base[kParts], delta[kParts];
    const float* coarse = scratch.coarse + static_cast<size_t>(image) * static_cast<size_t>(in.coarse_count) * kAttachRow;
    for (int lane = 0; lane < kLanes; ++lane) {
        const int texel = begin + (lane < count ? lane : count - 1);
        const size_t at = static_cast<size_t>(texel) * kAttachChannels;
        packed_to_parts(in.base + at, texel + 1 == in.count, base);
        packed_to_parts(in.rectification + at, texel + 1 == in.count, delta);
        for (int part = 0; part < kParts; ++part) rows[lane][part] = base[part] + gains[part] * delta[part];
        if (!in.maps) continue;
        if (!in.taps) {
            for (int part = 0; part < kParts; ++part) rows[lane][part] += load(coarse + static_cast<size_t>(texel) * kAttachRow + part * kLanes);
            continue;
        }
        for (int tap = 4 * texel; tap < 4 * texel + 4; ++tap) {
            const float* from = coarse + static_cast<size_t>(in.taps[tap]) * kAttachRow;
            for (int part = 0; part < kParts; ++part) rows[lane][part] += in.tap_weights[tap] * load(from + part * kLanes);
        }
    }
    rows_to_fields(rows, fields);
}

// Fields 0-2 interpolated position, 4-6 interpolated normal, 8-10 face normal, 11 stretch, 12-14 direction of u.
static inline void surface_fields(const DejaVuAttach& in, const AttachScratch& scratch, int image, int begin, int count, V* fields) {
    constexpr int half = kAttachRow / 2, step = kLanes < half ? kLanes : half;
    float row[kAttachRow + kLanes];
    V rows[kLanes][kParts];
    const float* vertices = scratch.vertices + static_cast<size_t>(image) * static_cast<size_t>(in.vertex_count) * half;
    const float* faces = scratch.faces + static_cast<size_t>(image) * static_cast<size_t>(in.face_count) * half;
    for (int lane = 0; lane < kLanes; ++lane) {
        const size_t texel = static_cast<size_t>(begin + (lane < count ? lane : count - 1)), face = static_cast<size_t>(in.texel_faces[texel]);
        const int32_t* corners = in.faces + 3 * face;
        const float *bary = in.bary + 3 * texel, *a = vertices + half * static_cast<size_t>(corners[0]);
        const float *b = vertices + half * static_cast<size_t>(corners[1]), *c = vertices + half * static_cast<size_t>(corners[2]);
        for (int i = 0; i < half; i += step) store(row + i, bary[0] * load(a + i) + bary[1] * load(b + i) + bary[2] * load(c + i));
        for (int i = 0; i < half; i += step) store(row + half + i, load(faces + half * face + i));
        row_to_parts(row, rows[lane]);
    }
    rows_to_fields(rows, fields);
}

static inline TexelFrame texel_frame(const DejaVuAttach& in, int image, const V* surface) {
    TexelFrame f;
    if (in.axes) {
        const float* r = in.axes + 9 * image;
        for (int i = 0; i < 3; ++i) {
            f.tangent[i] = broadcast(r[3 * i]);
            f.bitangent[i] = broadcast(r[3 * i + 1]);
            f.normal[i] = broadcast(r[3 * i + 2]);
        }
        return f;
    }
    for (int i = 0; i < 3; ++i) {
        f.normal[i] = surface[4 + i];
        f.tangent[i] = surface[12 + i];
    }
    normalize3(f.normal);
    const V along = dot3(f.tangent, f.normal);
    for (int i = 0; i < 3; ++i) f.tangent[i] -= along * f.normal[i];
    normalize3(f.tangent);
    cross3(f.normal, f.tangent, f.bitangent);
    return f;
}

static void attach_texels(const DejaVuAttach& in, const AttachScratch& scratch, int image, int begin, int end) {
    V gains[kParts], raw[kAttachRow], surface[kAttachRow], rest;
    packed_to_parts(in.gains, true, gains);
    for (int texel = begin; texel < end; texel += kLanes) {
        const int count = end - texel < kLanes ? end - texel : kLanes;
        raw_fields(in, scratch, image, texel, count, gains, raw);
        surface_fields(in, scratch, image, texel, count, surface);
        load_records<1>(in.rest_stretch + texel, count, &rest);
        const TexelFrame f = texel_frame(in, image, surface);
        V mean[3], scale[3], carried[4], quat[4];
        for (int i = 0; i < 3; ++i) mean[i] = surface[i] + f.tangent[i] * raw[0] + f.bitangent[i] * raw[1] + f.normal[i] * raw[2];
        const V ratio = vclamp(surface[11] / rest, broadcast(0.5f), broadcast(2.0f));
        for (int i = 0; i < 3; ++i) scale[i] = exp_of(raw[3 + i]) * (i < 2 ? ratio : broadcast(1.0f));
        frame_quaternion(f, carried);
        const V inverse = 1.0f / vsqrt(1.0f + dot3(raw + 6, raw + 6));
        const V local[4] = {inverse, raw[6] * inverse, raw[7] * inverse, raw[8] * inverse};
        multiply(carried, local, false, quat);
        const V opacity = 1.0f / (1.0f + exp_of(-raw[9]));
        const size_t at = static_cast<size_t>(image) * static_cast<size_t>(in.count) + static_cast<size_t>(texel);
        store_records<3>(in.means + 3 * at, count, mean);
        store_records<4>(in.quats + 4 * at, count, quat);
        store_records<3>(in.scales + 3 * at, count, scale);
        store_records<1>(in.opacities + at, count, &opacity);
        store_records<3>(in.colors + 3 * at, count, raw + 10);
        if (in.frames) store_records<4>(in.frames + 4 * at, count, carried);
    }
}

// Gradient by the raw map of kLanes texels, from what the forward pass gave out: it needs neither the map nor the surface.
static inline void raw_gradient(const DejaVuAttach& in, size_t at, int count, V* out) {
    V v_mean[3], v_quat[4], v_scale[3], v_opacity, frame[4], quat[4], scale[3], opacity, local[4], v_local[4];
    load_records<3>(in.v_means + 3 * at, count, v_mean);
    load_records<4>(in.v_quats + 4 * at, count, v_quat);
    load_records<3>(in.v_scales + 3 * at, count, v_scale);
    load_records<1>(in.v_opacities + at, count, &v_opacity);
    load_records<3>(in.v_colors + 3 * at, count, out + 10);
    load_records<4>(in.frames + 4 * at, count, frame);
    load_records<4>(in.quats + 4 * at, count, quat);
    load_records<3>(in.scales + 3 * at, count, scale);
    load_records<1>(in.opacities + at, count, &opacity);
    const V w = frame[0], axis[3] = {-frame[1], -frame[2], -frame[3]};  // v_position = inverse frame applied to v_mean
    V once[3], twice[3];
    cross3(axis, v_mean, once);
    for (int i = 0; i < 3; ++i) once[i] = 2.0f * once[i];
    cross3(axis, once, twice);
    for (int i = 0; i < 3; ++i) out[i] = v_mean[i] + w * once[i] + twice[i];
    for (int i = 0; i < 3; ++i) out[3 + i] = v_scale[i] * scale[i];
    multiply(frame, quat, true, local);  // (1, rotation) / its length
    multiply(frame, v_quat, true, v_local);
    const V along = dot3(local, v_local) + local[3] * v_local[3];
    for (int i = 0; i < 3; ++i) out[6 + i] = (v_local[1 + i] - local[1 + i] * along) * local[0];
    out[9] = v_opacity * opacity * (1.0f - opacity);
    for (int i = kAttachChannels; i < kAttachRow; ++i) out[i] = V{};
}

// Gradients of all images by the texels' own maps; into scratch.fine, where it is asked for, by the upsampled blend.
static void attach_texels_backward(const DejaVuAttach& in, const AttachScratch& scratch, int begin, int end) {
    for (int texel = begin; texel < end; texel += kLanes) {
        const int count = end - texel < kLanes ? end - texel : kLanes;
        V total[kAttachRow] = {}, fields[kAttachRow];
        for (int image = 0; image < in.images; ++image) {
            const size_t at = static_cast<size_t>(image) * static_cast<size_t>(in.count) + static_cast<size_t>(texel);
            raw_gradient(in, at, count, fields);
            for (int i = 0; i < kAttachChannels; ++i) {
                total[i] += fields[i];
                fields[i] *= in.gains[i];
            }
            if (!scratch.fine) continue;
            for (int part = 0; part < kParts; ++part) {
                transpose(fields + part * kLanes);
                for (int lane = 0; lane < count; ++lane) store(scratch.fine + (at + static_cast<size_t>(lane)) * kAttachRow + part * kLanes, fields[part * kLanes + lane]);
            }
        }
        const size_t at = static_cast<size_t>(texel) * kAttachChannels;
        if (in.v_base) store_records<kAttachChannels>(in.v_base + at, count, total);
        for (int i = 0; i < kAttachChannels; ++i) total[i] *= in.gains[i];
        if (in.v_rectification) store_records<kAttachChannels>(in.v_rectification + at, count, total);
    }
}

static inline float dot(const float* a, const float* b, int floats) {
    V sums[4] = {};
    int i = 0;
    for (; i + 4 * kLanes <= floats; i += 4 * kLanes)
        for (int k = 0; k < 4; ++k) sums[k] += load(a + i + k * kLanes) * load(b + i + k * kLanes);
    float total = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < floats; ++i) total += a[i] * b[i];
    return total;
}

// Gather scratch.fine into the coarse texels [begin, end), and from there gradients by blendmaps and weights (a partial sum).
static void attach_blend_backward(const DejaVuAttach& in, const AttachScratch& scratch, int begin, int end, int worker) {
    const size_t plane = static_cast<size_t>(in.coarse_count) * kAttachChannels, first = static_cast<size_t>(begin) * kAttachChannels;
    const int floats = (end - begin) * kAttachChannels;
    float* gathered = scratch.worker + static_cast<size_t>(worker) * scratch.worker_floats;
    for (int image = 0; image < in.images; ++image) {
        const float* fine = scratch.fine + static_cast<size_t>(image) * static_cast<size_t>(in.count) * kAttachRow;
        for (int c = begin; c < end; ++c) {
            V sum[kParts] = {};
            if (in.taps) {
                for (int32_t entry = in.coarse_begin[c]; entry < in.coarse_begin[c + 1]; ++entry) {
                    const float* row = fine + static_cast<size_t>(in.coarse_texels[entry]) * kAttachRow;
                    for (int part = 0; part < kParts; ++part) sum[part] += in.coarse_weights[entry] * load(row + part * kLanes);
                }
            } else {
                row_to_parts(fine + static_cast<size_t>(c) * kAttachRow, sum);
            }
            float* out = gathered + image * kAttachChunk + (c - begin) * kAttachChannels;
            for (int part = 0; part < kParts; ++part) store(out + part * kLanes, sum[part]);  // the next row overwrites the padding
        }
    }
    for (int map = 0; map < in.maps; ++map) {
        const size_t at = static_cast<size_t>(map) * plane + first;
        if (in.v_blendmaps) {
            float* out = in.v_blendmaps + at;
            for (int i = 0; i < floats; ++i) out[i] = in.weights[map] * gathered[i];
            for (int image = 1; image < in.images; ++image) {
                const float weight = in.weights[image * in.maps + map], *from = gathered + image * kAttachChunk;
                for (int i = 0; i < floats; ++i) out[i] += weight * from[i];
            }
        }
        if (!in.v_weights) continue;
        float* partial = scratch.partial + static_cast<size_t>(begin / kAttachCoarse) * static_cast<size_t>(in.images * in.maps);
        for (int image = 0; image < in.images; ++image) partial[image * in.maps + map] = dot(gathered + image * kAttachChunk, in.blendmaps + at, floats);
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
