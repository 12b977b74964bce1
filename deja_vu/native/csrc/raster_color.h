// Colors of Gaussians as the camera sees them: real spherical harmonics of degree 0 to 3 along camera center -> mean, in the order
// and with the signs of 3D Gaussian Splatting (Sloan, Efficient Spherical Harmonic Evaluation, JCGT 2013), and their gradient.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace deja_vu {
namespace DEJA_VU_VARIANT {

constexpr float kColorOffset = 0.5f;
constexpr float kSh0 = 0.28209479177387814f, kSh1 = 0.4886025119029199f;
constexpr float kSh2 = 1.0925484305920792f, kSh20 = 0.31539156525252005f;
constexpr float kSh3Side = 0.5900435899266435f, kSh3Mixed = 2.890611442640554f, kSh3Near = 0.4570457994644658f, kSh30 = 0.3731763325901154f;

struct Direction {
    V x, y, z, inverse_length;
};

static inline Direction direction_to(const float* center, const V* mean) {
    const V x = mean[0] - center[0], y = mean[1] - center[1], z = mean[2] - center[2];
    const V inverse = 1.0f / vsqrt(vmax(x * x + y * y + z * z, broadcast(1e-24f)));
    return {x * inverse, y * inverse, z * inverse, inverse};
}

template <int degree>
static inline void sh_basis(const Direction& d, V* basis) {
    const V x = d.x, y = d.y, z = d.z;
    basis[0] = broadcast(kSh0);
    basis[1] = -kSh1 * y;
    basis[2] = kSh1 * z;
    basis[3] = -kSh1 * x;
    if (degree < 2) return;
    const V xx = x * x, yy = y * y, zz = z * z;
    basis[4] = kSh2 * x * y;
    basis[5] = -kSh2 * y * z;
    basis[6] = kSh20 * (3.0f * zz - 1.0f);
    basis[7] = -kSh2 * x * z;
    basis[8] = 0.5f * kSh2 * (xx - yy);
    if (degree < 3) return;
    const V by_height = -kSh3Near * (5.0f * zz - 1.0f);
    basis[9] = -kSh3Side * y * (3.0f * xx - yy);
    basis[10] = kSh3Mixed * x * y * z;
    basis[11] = by_height * y;
    basis[12] = kSh30 * z * (5.0f * zz - 3.0f);
    basis[13] = by_height * x;
    basis[14] = 0.5f * kSh3Mixed * z * (xx - yy);
    basis[15] = -kSh3Side * x * (xx - 3.0f * yy);
}

// d loss / d direction from w = d loss / d basis; x, y, z are taken as independent, their common length is projected out later.
template <int degree>
static inline void sh_slope(const Direction& d, const V* w, V* slope) {
    const V x = d.x, y = d.y, z = d.z;
    slope[0] = -kSh1 * w[3];
    slope[1] = -kSh1 * w[1];
    slope[2] = kSh1 * w[2];
    if (degree < 2) return;
    slope[0] += kSh2 * (y * w[4] - z * w[7] + x * w[8]);
    slope[1] += kSh2 * (x * w[4] - z * w[5] - y * w[8]);
    slope[2] += 6.0f * kSh20 * z * w[6] - kSh2 * (y * w[5] + x * w[7]);
    if (degree < 3) return;
    const V xx = x * x, yy = y * y, zz = z * z, xy = x * y, yz = y * z, xz = x * z;
    const V across = -3.0f * kSh3Side * (xx - yy), along = 6.0f * kSh3Side * xy, by_height = -kSh3Near * (5.0f * zz - 1.0f);
    slope[0] += across * w[15] - along * w[9] + kSh3Mixed * (yz * w[10] + xz * w[14]) + by_height * w[13];
    slope[1] += across * w[9] + along * w[15] + kSh3Mixed * (xz * w[10] - yz * w[14]) + by_height * w[11];
    slope[2] += kSh3Mixed * (xy * w[10] + 0.5f * (xx - yy) * w[14]) - 10.0f * kSh3Near * (yz * w[11] + xz * w[13]) +
                kSh30 * (15.0f * zz - 3.0f) * w[12];
}

template <int degree>
static inline void color_of(const RasterSource& source, int first, int count, const V* mean, V* color, I& odd) {
    constexpr int terms = (degree + 1) * (degree + 1);
    V sh[3 * terms + kLanes], basis[terms];
    load_rows<3 * terms>(source.sh + static_cast<size_t>(3 * terms) * static_cast<size_t>(first), count, sh);
    sh_basis<degree>(direction_to(source.camera.center, mean), basis);
    for (int c = 0; c < 3; ++c) {
        color[c] = broadcast(kColorOffset);
        for (int k = 0; k < terms; ++k) {
            color[c] += basis[k] * sh[3 * k + c];
            odd |= not_finite(sh[3 * k + c]);
        }
    }
}

// In: d loss / d color, zero for Gaussians that are not seen. Writes the coefficients' gradient, adds to the mean's and the center's.
template <int degree>
static inline void color_backward(const RasterSource& source, int first, int count, const V* mean, const V* v_color, float* v_sh,
                                  V* v_mean, V* v_center) {
    constexpr int terms = (degree + 1) * (degree + 1);
    const size_t at = static_cast<size_t>(3 * terms) * static_cast<size_t>(first);
    V sh[3 * terms + kLanes], basis[terms], shade[3], v_basis[terms], slope[3];
    load_rows<3 * terms>(source.sh + at, count, sh);
    const Direction d = direction_to(source.camera.center, mean);
    sh_basis<degree>(d, basis);
    for (int c = 0; c < 3; ++c) {
        V color = broadcast(kColorOffset);
        for (int k = 0; k < terms; ++k) color += basis[k] * sh[3 * k + c];
        shade[c] = color >= 0.0f ? v_color[c] : V{};
    }
    for (int k = 0; k < terms; ++k) {
        v_basis[k] = shade[0] * sh[3 * k] + shade[1] * sh[3 * k + 1] + shade[2] * sh[3 * k + 2];
        for (int c = 0; c < 3; ++c) sh[3 * k + c] = basis[k] * shade[c];
    }
    store_rows<3 * terms>(v_sh + at, count, sh);
    sh_slope<degree>(d, v_basis, slope);
    const V radial = d.x * slope[0] + d.y * slope[1] + d.z * slope[2];
    const V by_mean[3] = {(slope[0] - radial * d.x) * d.inverse_length, (slope[1] - radial * d.y) * d.inverse_length,
                          (slope[2] - radial * d.z) * d.inverse_length};
    for (int i = 0; i < 3; ++i) {
        v_mean[i] += by_mean[i];
        v_center[i] -= by_mean[i];
    }
}

template <>
inline void color_of<0>(const RasterSource& source, int first, int count, const V*, V* color, I& odd) {
    load_records<3>(source.sh + 3 * static_cast<size_t>(first), count, color);
    for (int c = 0; c < 3; ++c) {
        odd |= not_finite(color[c]);
        color[c] = kColorOffset + kSh0 * color[c];
    }
}

template <>
inline void color_backward<0>(const RasterSource& source, int first, int count, const V*, const V* v_color, float* v_sh, V*, V*) {
    V color[3];
    I odd = I{};
    color_of<0>(source, first, count, nullptr, color, odd);
    for (int c = 0; c < 3; ++c) color[c] = color[c] >= 0.0f ? kSh0 * v_color[c] : V{};
    store_records<3>(v_sh + 3 * static_cast<size_t>(first), count, color);
}

// Marks in `odd` where a coefficient is not finite.
static inline void colors_at(const RasterSource& source, int first, int count, const V* mean, V* color, I& odd) {
    if (source.coefficients == 1) return color_of<0>(source, first, count, mean, color, odd);
    if (source.coefficients == 4) return color_of<1>(source, first, count, mean, color, odd);
    if (source.coefficients == 9) return color_of<2>(source, first, count, mean, color, odd);
    color_of<3>(source, first, count, mean, color, odd);
}

static inline void colors_backward(const RasterSource& source, int first, int count, const V* mean, const V* v_color, float* v_sh, V* v_mean,
                                   V* v_center) {
    if (source.coefficients == 1) return color_backward<0>(source, first, count, mean, v_color, v_sh, v_mean, v_center);
    if (source.coefficients == 4) return color_backward<1>(source, first, count, mean, v_color, v_sh, v_mean, v_center);
    if (source.coefficients == 9) return color_backward<2>(source, first, count, mean, v_color, v_sh, v_mean, v_center);
    color_backward<3>(source, first, count, mean, v_color, v_sh, v_mean, v_center);
}

}  // namespace DEJA_VU_VARIANT
}  // namespace deja_vu
