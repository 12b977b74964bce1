// Projection of Gaussians to the image plane and its gradient, kLanes Gaussians at a time (EWA splatting as in gsplat:
// 0.3 px^2 blur, linearization clamped 15 % outside the image).
#pragma once
#include "kernels.h"
#include "simd.h"
#include "raster_color.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

constexpr float kNear = 0.01f;
constexpr float kBlur = 0.3f;
constexpr float kAlphaMin = 1.0f / 255.0f;
constexpr float kLog2AlphaMin = -7.994353436858858f;
constexpr float kHalfLog2E = 0.7213475204444817f;

struct Projected {
    V mean[3], quat[4], scale[3], opacity;
    V x, y, z, rz;             // camera space
    V inverse_norm;            // of the quaternion
    V turn[3][3];              // rotation of the Gaussian
    V axes[3][3];              // camera rotation * turn * scale: columns are the scaled axes in camera space
    V jx, jxz, jy, jyz;        // the linearized projection
    I inside_x, inside_y;      // where its clamp does not act
    V u[3], v[3];              // projected axes
    V cxx, cxy, cyy, det;      // blurred 2D covariance
    V px, py;                  // image position, pixels
    I visible;                 // in front, not transparent, finite (the image's border is not looked at)
};

static inline Projected project_lanes(const RasterSource& source, int begin, int count) {
    Projected g;
    const RasterCamera& cam = source.camera;
    load_records<3>(source.means + 3 * static_cast<size_t>(begin), count, g.mean);
    load_records<4>(source.quats + 4 * static_cast<size_t>(begin), count, g.quat);
    load_records<3>(source.scales + 3 * static_cast<size_t>(begin), count, g.scale);
    load_records<1>(source.opacities + begin, count, &g.opacity);

    const float* r = cam.rotation;
    V place[3];
    for (int i = 0; i < 3; ++i)
        place[i] = r[3 * i] * g.mean[0] + r[3 * i + 1] * g.mean[1] + r[3 * i + 2] * g.mean[2] + cam.translation[i];
    const I in_front = place[2] >= kNear;
    g.x = place[0];
    g.y = place[1];
    g.z = in_front ? place[2] : broadcast(1.0f);
    g.rz = 1.0f / g.z;

    const V norm2 = g.quat[0] * g.quat[0] + g.quat[1] * g.quat[1] + g.quat[2] * g.quat[2] + g.quat[3] * g.quat[3];
    g.inverse_norm = 1.0f / vsqrt(vmax(norm2, broadcast(1e-24f)));
    const V qw = g.quat[0] * g.inverse_norm, qx = g.quat[1] * g.inverse_norm;
    const V qy = g.quat[2] * g.inverse_norm, qz = g.quat[3] * g.inverse_norm;
    g.turn[0][0] = 1.0f - 2.0f * (qy * qy + qz * qz);
    g.turn[0][1] = 2.0f * (qx * qy - qw * qz);
    g.turn[0][2] = 2.0f * (qx * qz + qw * qy);
    g.turn[1][0] = 2.0f * (qx * qy + qw * qz);
    g.turn[1][1] = 1.0f - 2.0f * (qx * qx + qz * qz);
    g.turn[1][2] = 2.0f * (qy * qz - qw * qx);
    g.turn[2][0] = 2.0f * (qx * qz - qw * qy);
    g.turn[2][1] = 2.0f * (qy * qz + qw * qx);
    g.turn[2][2] = 1.0f - 2.0f * (qx * qx + qy * qy);
    for (int i = 0; i < 3; ++i)
        for (int k = 0; k < 3; ++k)
            g.axes[i][k] = (r[3 * i] * g.turn[0][k] + r[3 * i + 1] * g.turn[1][k] + r[3 * i + 2] * g.turn[2][k]) * g.scale[k];

    const V tan_x = g.x * g.rz, tan_y = g.y * g.rz;
    const V used_x = vclamp(tan_x, broadcast(-cam.low_x), broadcast(cam.high_x)), used_y = vclamp(tan_y, broadcast(-cam.low_y), broadcast(cam.high_y));
    g.inside_x = used_x == tan_x;
    g.inside_y = used_y == tan_y;
    g.jx = cam.fx * g.rz;
    g.jy = cam.fy * g.rz;
    g.jxz = -g.jx * used_x;
    g.jyz = -g.jy * used_y;
    V sxx = V{}, sxy = V{}, syy = V{};
    for (int k = 0; k < 3; ++k) {
        g.u[k] = g.jx * g.axes[0][k] + g.jxz * g.axes[2][k];
        g.v[k] = g.jy * g.axes[1][k] + g.jyz * g.axes[2][k];
        sxx += g.u[k] * g.u[k];
        sxy += g.u[k] * g.v[k];
        syy += g.v[k] * g.v[k];
    }
    // det(u u' + ..) as a sum of squared minors: it cannot cancel, so needles keep a positive determinant.
    const V m01 = g.u[0] * g.v[1] - g.u[1] * g.v[0], m02 = g.u[0] * g.v[2] - g.u[2] * g.v[0], m12 = g.u[1] * g.v[2] - g.u[2] * g.v[1];
    g.det = m01 * m01 + m02 * m02 + m12 * m12 + kBlur * (sxx + syy) + kBlur * kBlur;
    g.cxx = sxx + kBlur;
    g.cxy = sxy;
    g.cyy = syy + kBlur;
    g.px = cam.fx * tan_x + cam.cx;
    g.py = cam.fy * tan_y + cam.cy;
    g.visible = in_front & (g.opacity >= kAlphaMin) & (g.det < 1e30f);
    return g;
}

static inline I ceiling(V value) {
    const I whole = to_int(value);
    return whole - (to_float(whole) < value);
}

static bool project(const RasterSource& source, int begin, int end, Splat* splats, TileRect* rects) {
    I odd = I{};  // lanes that met a value that is not finite
    for (int first = begin; first < end; first += kLanes) {
        const int count = end - first < kLanes ? end - first : kLanes;
        const Projected g = project_lanes(source, first, count);
        V color[3];
        colors_at(source, first, count, g.mean, color, odd);
        for (int k = 0; k < 3; ++k) odd |= not_finite(g.mean[k]) | not_finite(g.scale[k]);
        for (int k = 0; k < 4; ++k) odd |= not_finite(g.quat[k]);
        odd |= not_finite(g.opacity);

        const V inverse_det = kHalfLog2E / g.det;
        const V log2_opacity = log2_of(g.opacity);
        V fields[12 + kLanes];
        fields[0] = g.px;
        fields[1] = g.py;
        fields[2] = g.cyy * inverse_det;
        fields[3] = -2.0f * g.cxy * inverse_det;
        fields[4] = g.cxx * inverse_det;
        fields[5] = log2_opacity;
        fields[6] = g.cxy / g.cyy;
        fields[7] = g.cxy / g.cxx;
        for (int k = 0; k < 3; ++k) fields[8 + k] = vmax(color[k], V{});
        fields[11] = g.z;

        // The ellipse alpha = 1/255 and its box; the box takes in rounding. Half-open pixel range, then tile range.
        const V reach = vmax(2.0f * 0.6931471805599453f * (log2_opacity - kLog2AlphaMin), V{});
        const V radius_x = vsqrt(reach * g.cxx) + 1e-3f, radius_y = vsqrt(reach * g.cyy) + 1e-3f;
        const V wide = broadcast(static_cast<float>(source.width)), high = broadcast(static_cast<float>(source.height));
        const I x0 = ceiling(vclamp(g.px - radius_x - 0.5f, V{}, wide)), x1 = to_int(vclamp(g.px + radius_x + 0.5f, V{}, wide));
        const I y0 = ceiling(vclamp(g.py - radius_y - 0.5f, V{}, high)), y1 = to_int(vclamp(g.py + radius_y + 0.5f, V{}, high));
        const I seen = g.visible & (x0 < x1) & (y0 < y1);
        alignas(64) int32_t box[4][kLanes];
        const I box_values[4] = {x0 >> 4, ((x1 + 15) >> 4), y0 >> 4, ((y1 + 15) >> 4)};
        for (int k = 0; k < 4; ++k) {
            const I value = seen ? box_values[k] : I{};
            memcpy(box[k], &value, sizeof(I));
        }
        store_rows<12>(reinterpret_cast<float*>(splats + first), count, fields);
        for (int lane = 0; lane < count; ++lane)
            rects[first + lane] = {static_cast<uint16_t>(box[0][lane]), static_cast<uint16_t>(box[1][lane]),
                                   static_cast<uint16_t>(box[2][lane]), static_cast<uint16_t>(box[3][lane])};
    }
    return !mask_bits(odd);
}

// Sums of Gaussians' slots of `size` floats, in the order of the patches.
template <int size>
static inline void gather_slots(const uint32_t* slot_begin, const float* slots, int first, int count, V* sums) {
    alignas(64) float lanes[size][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
        float total[size] = {};
        if (lane < count) {
            const float* slot = slots + static_cast<size_t>(slot_begin[first + lane]) * size;
            const float* stop = slots + static_cast<size_t>(slot_begin[first + lane + 1]) * size;
            for (; slot != stop; slot += size)
                for (int k = 0; k < size; ++k) total[k] += slot[k];
        }
        for (int k = 0; k < size; ++k) lanes[k][lane] = total[k];
    }
    for (int k = 0; k < size; ++k) sums[k] = load(lanes[k]);
}

// d loss / d image position (px, py) and twice d loss / d blurred covariance, from the sums of the slots: these hold d loss / d ln(alpha)
// times 1, g and g g', where g / log2(e) is d ln(alpha) / d center and dC = g g' / 2.
struct ShapeGradient {
    V px, py, xx, xy, yy;
};

static inline ShapeGradient shape_gradient(const V* sums) {
    constexpr float ln2 = 0.6931471805599453f;
    return {ln2 * sums[1], ln2 * sums[2], ln2 * ln2 * sums[3], ln2 * ln2 * sums[4], ln2 * ln2 * sums[5]};
}

// Back through the linearized projection: gradients of the camera-space position and of the scaled axes.
static inline void place_backward(const Projected& g, const ShapeGradient& v, V v_depth, V* v_place, V (*v_axes)[3]) {
    V v_jx = V{}, v_jxz = V{}, v_jy = V{}, v_jyz = V{};
    for (int k = 0; k < 3; ++k) {
        const V v_u = v.xx * g.u[k] + v.xy * g.v[k], v_v = v.xy * g.u[k] + v.yy * g.v[k];
        v_jx += v_u * g.axes[0][k];
        v_jxz += v_u * g.axes[2][k];
        v_jy += v_v * g.axes[1][k];
        v_jyz += v_v * g.axes[2][k];
        v_axes[0][k] = g.jx * v_u;
        v_axes[1][k] = g.jy * v_v;
        v_axes[2][k] = g.jxz * v_u + g.jyz * v_v;
    }
    const V dx = -g.jx * g.rz * v_jxz, dy = -g.jy * g.rz * v_jyz;
    v_place[0] = g.jx * v.px + (g.inside_x ? dx : V{});
    v_place[1] = g.jy * v.py + (g.inside_y ? dy : V{});
    v_place[2] = -g.rz * (g.jx * g.x * v.px + g.jy * g.y * v.py + g.jx * v_jx + g.jy * v_jy + (g.inside_x ? 2.0f * g.jxz : g.jxz) * v_jxz +
                          (g.inside_y ? 2.0f * g.jyz : g.jyz) * v_jyz) + v_depth;
}

// From d loss / d rotation matrix of the Gaussians to the quaternion as it was given, of any length.
static inline void quaternion_backward(const Projected& g, const V (*t)[3], V* v_quat) {
    const V w = g.quat[0] * g.inverse_norm, x = g.quat[1] * g.inverse_norm, y = g.quat[2] * g.inverse_norm, z = g.quat[3] * g.inverse_norm;
    V v_unit[4];
    v_unit[0] = 2.0f * (x * (t[2][1] - t[1][2]) + y * (t[0][2] - t[2][0]) + z * (t[1][0] - t[0][1]));
    v_unit[1] = 2.0f * (-2.0f * x * (t[1][1] + t[2][2]) + y * (t[1][0] + t[0][1]) + z * (t[2][0] + t[0][2]) + w * (t[2][1] - t[1][2]));
    v_unit[2] = 2.0f * (x * (t[1][0] + t[0][1]) - 2.0f * y * (t[0][0] + t[2][2]) + z * (t[2][1] + t[1][2]) + w * (t[0][2] - t[2][0]));
    v_unit[3] = 2.0f * (x * (t[2][0] + t[0][2]) + y * (t[2][1] + t[1][2]) - 2.0f * z * (t[0][0] + t[1][1]) + w * (t[1][0] - t[0][1]));
    const V along = w * v_unit[0] + x * v_unit[1] + y * v_unit[2] + z * v_unit[3];
    const V unit[4] = {w, x, y, z};
    for (int k = 0; k < 4; ++k) v_quat[k] = (v_unit[k] - along * unit[k]) * g.inverse_norm;
}

struct LaneGradients {
    V mean[3], quat[4], scale[3], opacity;
};

struct CameraGradient {
    V rotation[9], translation[3], center[3];
};

// Everything up to the colors from the slots' sums; zero where a Gaussian is not seen.
static inline LaneGradients gaussian_backward(const RasterCamera& camera, const Projected& g, const V* sums, I seen, CameraGradient& v_camera) {
    const float* r = camera.rotation;
    LaneGradients v;
    V v_place[3], v_axes[3][3], v_turn[3][3];
    place_backward(g, shape_gradient(sums), sums[9], v_place, v_axes);
    for (int i = 0; i < 3; ++i) {
        v_place[i] = seen ? v_place[i] : V{};
        v_camera.translation[i] += v_place[i];
        for (int k = 0; k < 3; ++k) v_axes[i][k] = seen ? v_axes[i][k] : V{};
    }
    for (int k = 0; k < 3; ++k) {
        v.mean[k] = r[k] * v_place[0] + r[3 + k] * v_place[1] + r[6 + k] * v_place[2];
        v.scale[k] = V{};
        for (int i = 0; i < 3; ++i) {
            const V v_local = r[i] * v_axes[0][k] + r[3 + i] * v_axes[1][k] + r[6 + i] * v_axes[2][k];
            v.scale[k] += v_local * g.turn[i][k];
            v_turn[i][k] = v_local * g.scale[k];
        }
    }
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            V total = v_place[i] * g.mean[j];
            for (int k = 0; k < 3; ++k) total += v_axes[i][k] * (g.turn[j][k] * g.scale[k]);
            v_camera.rotation[3 * i + j] += total;
        }
    quaternion_backward(g, v_turn, v.quat);
    v.opacity = seen ? sums[0] / g.opacity : V{};
    return v;
}

static void project_backward(const RasterSource& source, int begin, int end, const uint32_t* slot_begin, const float* slots, bool with_depth,
                             const RasterGradients& out, float* camera_sums) {
    CameraGradient v_camera = {};
    for (int first = begin; first < end; first += kLanes) {
        const int count = end - first < kLanes ? end - first : kLanes;
        alignas(64) int32_t seen_lanes[kLanes] = {};
        unsigned any = 0;
        for (int lane = 0; lane < count; ++lane) {
            seen_lanes[lane] = slot_begin[first + lane] < slot_begin[first + lane + 1] ? -1 : 0;
            any |= static_cast<unsigned>(seen_lanes[lane]);
        }
        LaneGradients v = {};
        if (any) {
            I seen;
            memcpy(&seen, seen_lanes, sizeof(I));
            V sums[kSlot + 1] = {};
            if (with_depth)
                gather_slots<kSlot + 1>(slot_begin, slots, first, count, sums);
            else
                gather_slots<kSlot>(slot_begin, slots, first, count, sums);
            const Projected g = project_lanes(source, first, count);
            v = gaussian_backward(source.camera, g, sums, seen, v_camera);
            const V v_color[3] = {seen ? sums[6] : V{}, seen ? sums[7] : V{}, seen ? sums[8] : V{}};
            colors_backward(source, first, count, g.mean, v_color, out.sh, v.mean, v_camera.center);
        } else {
            const size_t row = static_cast<size_t>(3 * source.coefficients);
            memset(out.sh + row * static_cast<size_t>(first), 0, sizeof(float) * row * static_cast<size_t>(count));
        }
        store_records<3>(out.means + 3 * static_cast<size_t>(first), count, v.mean);
        store_records<4>(out.quats + 4 * static_cast<size_t>(first), count, v.quat);
        store_records<3>(out.scales + 3 * static_cast<size_t>(first), count, v.scale);
        store_records<1>(out.opacities + first, count, &v.opacity);
    }
    for (int k = 0; k < 9; ++k) camera_sums[k] = sum_of(v_camera.rotation[k]);
    for (int k = 0; k < 3; ++k) {
        camera_sums[9 + k] = sum_of(v_camera.translation[k]);
        camera_sums[12 + k] = sum_of(v_camera.center[k]);
    }
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
