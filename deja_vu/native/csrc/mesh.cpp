// Z-buffer of triangle meshes seen by pinhole cameras; both sides of a triangle are drawn.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <vector>

#include "api.h"
#include "kernels.h"

namespace deja_vu {
namespace {

constexpr float kNearest = 0.01f;
constexpr int kBand = 64;  // rows a work item

struct Corner {
    float x, y, inverse_z;  // pixels; inverse_z <= 0 where the vertex lies before the near plane
};

void project_vertices(const DejaVuMesh& in, int image, Corner* out) {
    const float *m = in.camera_from_world + image * in.camera_from_world_step, *k = in.intrinsics + image * in.intrinsics_step;
    const float* p = in.vertices + static_cast<size_t>(image) * static_cast<size_t>(in.vertex_count) * 3;
    for (int v = 0; v < in.vertex_count; ++v, p += 3) {
        const float x = m[0] * p[0] + m[1] * p[1] + m[2] * p[2] + m[3], y = m[4] * p[0] + m[5] * p[1] + m[6] * p[2] + m[7];
        const float z = m[8] * p[0] + m[9] * p[1] + m[10] * p[2] + m[11];
        const float inverse = z >= kNearest ? 1.0f / z : 0.0f;
        out[v] = {(k[0] * x + k[1] * y) * inverse + k[2], k[4] * y * inverse + k[5], inverse};
    }
}

// First and one-past-last pixel whose center lies in [low, high], within [begin, end).
inline int first_center(float low, int begin, int end) { return static_cast<int>(std::ceil(std::clamp(low - 0.5f, static_cast<float>(begin), static_cast<float>(end)))); }
inline int past_center(float high, int begin, int end) { return static_cast<int>(std::floor(std::clamp(high + 0.5f, static_cast<float>(begin), static_cast<float>(end)))); }

void draw_band(const DejaVuMesh& in, int image, const Corner* corners, int row_begin, int row_end) {
    const size_t pixels = static_cast<size_t>(in.width) * static_cast<size_t>(in.height), base = static_cast<size_t>(image) * pixels;
    int32_t* ids = in.face_id + base;
    float *bary = in.bary + 3 * base, *depth = in.depth + base;
    const size_t begin = static_cast<size_t>(row_begin) * static_cast<size_t>(in.width), end = static_cast<size_t>(row_end) * static_cast<size_t>(in.width);
    std::fill(ids + begin, ids + end, -1);
    std::fill(depth + begin, depth + end, 0.0f);  // holds 1 / z while drawing
    std::fill(bary + 3 * begin, bary + 3 * end, 0.0f);
    for (int face = 0; face < in.face_count; ++face) {
        const int32_t* f = in.faces + 3 * static_cast<size_t>(face);
        const Corner &a = corners[f[0]], &b = corners[f[1]], &c = corners[f[2]];
        const int y0 = first_center(std::min({a.y, b.y, c.y}), row_begin, row_end), y1 = past_center(std::max({a.y, b.y, c.y}), row_begin, row_end);
        if (y0 >= y1 || a.inverse_z <= 0 || b.inverse_z <= 0 || c.inverse_z <= 0) continue;
        const int x0 = first_center(std::min({a.x, b.x, c.x}), 0, in.width), x1 = past_center(std::max({a.x, b.x, c.x}), 0, in.width);
        if (x0 >= x1) continue;
        const float area = (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
        if (area == 0) continue;
        const float scale = 1 / area;
        for (int y = y0; y < y1; ++y)
            for (int x = x0; x < x1; ++x) {
                const float px = static_cast<float>(x) + 0.5f, py = static_cast<float>(y) + 0.5f;
                const float wa = ((b.x - px) * (c.y - py) - (b.y - py) * (c.x - px)) * scale;
                const float wb = ((c.x - px) * (a.y - py) - (c.y - py) * (a.x - px)) * scale;
                const float wc = 1 - wa - wb;
                if (wa < 0 || wb < 0 || wc < 0) continue;
                const float za = wa * a.inverse_z, zb = wb * b.inverse_z, zc = wc * c.inverse_z, inverse = za + zb + zc;
                const size_t at = static_cast<size_t>(y) * static_cast<size_t>(in.width) + static_cast<size_t>(x);
                if (inverse <= depth[at]) continue;
                depth[at] = inverse;
                ids[at] = face;
                bary[3 * at] = za / inverse;
                bary[3 * at + 1] = zb / inverse;
                bary[3 * at + 2] = zc / inverse;
            }
    }
    for (size_t at = begin; at < end; ++at) depth[at] = ids[at] < 0 ? 0.0f : 1 / depth[at];
}

void draw(const DejaVuMesh& in) {
    const size_t vertices = static_cast<size_t>(in.vertex_count);
    std::vector<Corner> corners(vertices * static_cast<size_t>(in.images));
    const int bands = in.images >= 2 * in.threads ? 1 : (in.height + kBand - 1) / kBand;
    const int rows = (in.height + bands - 1) / std::max(bands, 1);
    const auto project = [&](int image, int) { project_vertices(in, image, corners.data() + vertices * static_cast<size_t>(image)); };
    const auto body = [&](int item, int) {
        const int image = item / bands, begin = item % bands * rows;
        draw_band(in, image, corners.data() + vertices * static_cast<size_t>(image), std::min(begin, in.height), std::min(begin + rows, in.height));
    };
    const auto call = [](int items, int threads, auto& work) {
        using Work = std::remove_reference_t<decltype(work)>;
        parallel_for(items, threads, [](void* context, int item, int worker) { (*static_cast<Work*>(context))(item, worker); },
                     const_cast<void*>(static_cast<const void*>(&work)));
    };
    call(in.images, in.threads, project);
    call(in.images * bands, in.threads, body);
}

}  // namespace
}  // namespace deja_vu

// Returns 0, or 1 when memory runs out. A triangle with a corner nearer than 1 cm is left out.
DEJA_VU_API int deja_vu_mesh(const DejaVuMesh* in) {
    try {
        deja_vu::draw(*in);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
