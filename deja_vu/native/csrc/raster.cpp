// Drives the rasterizer: project, sort by depth, hand Gaussians to tiles, composite; and the same backwards. Each stage's results
// depend on nothing but its inputs: tiles own their pixels and their slots, sums run in a fixed order.
#include <cmath>
#include <memory>

#include "raster_bins.h"

namespace deja_vu {
namespace {

constexpr int kRange = 1024;  // Gaussians a work item
static_assert(sizeof(Splat) + sizeof(TileRect) == DEJA_VU_WORKSPACE * sizeof(float), "api.h tells the caller how much to bring");

// The camera's center -A^-1 t of a pose (A, t), for view-dependent colors. A is inverted, not transposed: gsplat's gradient is that
// of the inverse. A singular A has no center; its rows are zero then, and every color is seen along one direction.
struct Pose {
    double inverse[3][3], center[3];

    explicit Pose(const float* m) {
        const auto at = [m](int row, int column) { return static_cast<double>(m[4 * (row % 3) + column % 3]); };
        double determinant = 0;
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) inverse[j][i] = at(i + 1, j + 1) * at(i + 2, j + 2) - at(i + 1, j + 2) * at(i + 2, j + 1);
        for (int j = 0; j < 3; ++j) determinant += at(0, j) * inverse[j][0];
        for (int i = 0; i < 3; ++i) {
            center[i] = 0;
            for (int j = 0; j < 3; ++j) {
                inverse[i][j] = determinant != 0 ? inverse[i][j] / determinant : 0;
                center[i] -= inverse[i][j] * static_cast<double>(m[4 * j + 3]);
            }
        }
    }

    // Adds what a gradient by the center means for the 4x4 matrix, its last row included as in a general inverse.
    void add_gradient(const double* v_center, double* v_matrix) const {
        for (int row = 0; row < 4; ++row) {
            double through = 0;
            for (int i = 0; i < 3; ++i) through -= (row < 3 ? inverse[i][row] : center[i]) * v_center[i];
            for (int column = 0; column < 4; ++column) v_matrix[4 * row + column] += through * (column < 3 ? center[column] : 1.0);
        }
    }
};

RasterSource source_of(const DejaVuRasterInput& in, int image) {
    RasterSource s;
    s.means = in.means + image * in.means_step;
    s.quats = in.quats + image * in.quats_step;
    s.scales = in.scales + image * in.scales_step;
    s.opacities = in.opacities + image * in.opacities_step;
    s.sh = in.sh + image * in.sh_step;
    s.count = in.count;
    s.coefficients = in.coefficients;
    s.width = in.width;
    s.height = in.height;
    const float *m = in.camera_from_world + image * in.camera_from_world_step, *k = in.intrinsics + image * in.intrinsics_step;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) s.camera.rotation[3 * i + j] = m[4 * i + j];
        s.camera.translation[i] = m[4 * i + 3];
    }
    const Pose pose(m);
    for (int i = 0; i < 3; ++i) s.camera.center[i] = static_cast<float>(pose.center[i]);
    const float w = static_cast<float>(in.width), h = static_cast<float>(in.height);
    s.camera.fx = k[0];
    s.camera.fy = k[4];
    s.camera.cx = k[2];
    s.camera.cy = k[5];
    s.camera.low_x = (k[2] + 0.15f * w) / k[0];
    s.camera.high_x = (w - k[2] + 0.15f * w) / k[0];
    s.camera.low_y = (k[5] + 0.15f * h) / k[4];
    s.camera.high_y = (h - k[5] + 0.15f * h) / k[4];
    return s;
}

TileJob job_of(const Image& image, const State& state, int tile, const DejaVuRasterOutput& out, int index) {
    TileJob job = {};
    const size_t pixels = static_cast<size_t>(image.source.width) * static_cast<size_t>(image.source.height) * static_cast<size_t>(index);
    const uint32_t begin = image.tile_begin[tile], rank = image.tile_rank[tile];
    job.splats = image.splats;
    job.rects = image.rects;
    job.slot_begin = image.slot_begin.get();
    job.slots = image.slots.get();
    job.entries = image.entries.get() + begin;
    job.block_masks = image.block_masks.get() + begin;
    job.entry_count = static_cast<int>(image.tile_begin[tile + 1] - begin);
    if (job.entry_count) {
        job.last = image.last.get() + static_cast<size_t>(16) * rank;
        job.transmittance = image.transmittance.get() + static_cast<size_t>(kTilePixels) * rank;
    }
    job.background = image.background;
    job.rgb = out.rgb + 3 * pixels;
    job.alpha = out.alpha + pixels;
    job.depth = out.depth + pixels;
    job.x0 = tile % state.tiles_x * kTile;
    job.y0 = tile / state.tiles_x * kTile;
    job.width = image.source.width;
    job.height = image.source.height;
    return job;
}

bool is_finite(const float* values, int count) {
    return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

struct NotFinite {};

std::unique_ptr<State> forward(const DejaVuRasterInput& in, const DejaVuRasterOutput& out, float* workspace) {
    auto state = std::make_unique<State>();
    state->images.resize(static_cast<size_t>(in.images));
    state->tiles_x = (in.width + kTile - 1) / kTile;
    state->tiles_y = (in.height + kTile - 1) / kTile;
    state->ranges = (in.count + kRange - 1) / kRange;
    const size_t count = static_cast<size_t>(in.count);
    for (int i = 0; i < in.images; ++i) {
        Image& image = state->images[static_cast<size_t>(i)];
        image.source = source_of(in, i);
        image.background = in.background + i * in.background_step;
        if (!is_finite(in.camera_from_world + i * in.camera_from_world_step, 16) || !is_finite(in.intrinsics + i * in.intrinsics_step, 9) ||
            !is_finite(image.background, 3))
            throw NotFinite();
        image.splats = reinterpret_cast<Splat*>(workspace + DEJA_VU_WORKSPACE * count * static_cast<size_t>(i));
        image.rects = reinterpret_cast<TileRect*>(image.splats + count);
    }
    const Kernels& kernel = kernels();
    bool all_finite = true;
    run_parallel(in.images * state->ranges, in.threads, [&](int item, int) {
        const Image& image = state->images[static_cast<size_t>(item / state->ranges)];
        const int begin = item % state->ranges * kRange, end = std::min(begin + kRange, in.count);
        if (!kernel.project(image.source, begin, end, image.splats, image.rects)) __atomic_store_n(&all_finite, false, __ATOMIC_RELAXED);
    });
    if (!all_finite) throw NotFinite();
    fill_tiles(*state, in.threads);
    run_parallel(in.images * state->tiles(), in.threads, [&](int item, int) {
        const int index = item / state->tiles();
        kernel.tile_forward(job_of(state->images[static_cast<size_t>(index)], *state, item % state->tiles(), out, index));
    });
    return state;
}

void backward_camera(const float* range_sums, int ranges, const float* matrix, float* v_matrix) {
    double sums[kCameraSums] = {}, out[16] = {};
    for (int r = 0; r < ranges; ++r)
        for (int k = 0; k < kCameraSums; ++k) sums[k] += static_cast<double>(range_sums[r * kCameraSums + k]);
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) out[4 * i + j] = sums[3 * i + j];
        out[4 * i + 3] = sums[9 + i];
    }
    if (sums[12] != 0 || sums[13] != 0 || sums[14] != 0) Pose(matrix).add_gradient(sums + 12, out);
    for (int k = 0; k < 16; ++k) v_matrix[k] = static_cast<float>(out[k]);
}

void backward_background(const Image& image, const State& state, const float* v_rgb, float* v_background) {
    double sums[3] = {};
    for (int tile = 0; tile < state.tiles(); ++tile)
        for (int p = 0; p < kTilePixels; ++p) {
            const int x = tile % state.tiles_x * kTile + 4 * (p / 16 % 4) + p % 4, y = tile / state.tiles_x * kTile + 4 * (p / 64) + p / 4 % 4;
            if (x >= image.source.width || y >= image.source.height) continue;
            const size_t at = static_cast<size_t>(y) * static_cast<size_t>(image.source.width) + static_cast<size_t>(x);
            const size_t pixel = static_cast<size_t>(image.tile_rank[tile]) * kTilePixels + static_cast<size_t>(p);
            const float through = image.has_entries(tile) ? image.transmittance[pixel] : 1.0f;
            for (int k = 0; k < 3; ++k) sums[k] += static_cast<double>(through * v_rgb[3 * at + static_cast<size_t>(k)]);
        }
    for (int k = 0; k < 3; ++k) v_background[k] = static_cast<float>(sums[k]);
}

void backward(State& state, const DejaVuRasterInput& in, const DejaVuRasterOutput& out, const DejaVuRasterOutput& v_out,
              const DejaVuRasterGradients& grads) {
    const Kernels& kernel = kernels();
    const size_t count = static_cast<size_t>(in.count), pixels = static_cast<size_t>(in.width) * static_cast<size_t>(in.height);
    for (int i = 0; i < in.images; ++i) {
        Image& image = state.images[static_cast<size_t>(i)];
        // the data may have moved since
        image.source = source_of(in, i);
        image.background = in.background + i * in.background_step;
        image.slots.allocate(static_cast<size_t>(image.slot_begin[in.count]) * static_cast<size_t>(kSlot + (v_out.depth != nullptr)));
    }
    const int patches_x = patches_of(0, state.tiles_x), patches = patches_x * patches_of(0, state.tiles_y);
    run_parallel(in.images * patches, in.threads, [&](int item, int) {
        const size_t index = static_cast<size_t>(item / patches);
        const int x0 = item % patches % patches_x * kPatch, y0 = item % patches / patches_x * kPatch;
        for (int y = y0; y < std::min(y0 + kPatch, state.tiles_y); ++y)
            for (int x = x0; x < std::min(x0 + kPatch, state.tiles_x); ++x) {
                TileJob job = job_of(state.images[index], state, y * state.tiles_x + x, out, static_cast<int>(index));
                job.v_rgb = v_out.rgb + 3 * pixels * index;
                job.v_alpha = v_out.alpha ? v_out.alpha + pixels * index : nullptr;
                job.v_depth = v_out.depth ? v_out.depth + pixels * index : nullptr;
                kernel.tile_backward(job);
            }
    });
    std::vector<float> camera_sums(static_cast<size_t>(in.images * state.ranges) * kCameraSums);
    run_parallel(in.images * state.ranges, in.threads, [&](int item, int) {
        const size_t index = static_cast<size_t>(item / state.ranges);
        const Image& image = state.images[index];
        const int begin = item % state.ranges * kRange, end = std::min(begin + kRange, in.count);
        const RasterGradients target = {grads.means + 3 * count * index, grads.quats + 4 * count * index, grads.scales + 3 * count * index,
                                        grads.opacities + count * index, grads.sh + 3 * count * static_cast<size_t>(in.coefficients) * index};
        kernel.project_backward(image.source, begin, end, image.slot_begin.get(), image.slots.get(), v_out.depth != nullptr, target,
                                camera_sums.data() + static_cast<size_t>(item) * kCameraSums);
    });
    for (size_t index = 0; index < state.images.size(); ++index) {
        backward_camera(camera_sums.data() + index * static_cast<size_t>(state.ranges) * kCameraSums, state.ranges,
                        in.camera_from_world + static_cast<int64_t>(index) * in.camera_from_world_step, grads.camera_from_world + 16 * index);
        if (grads.background) backward_background(state.images[index], state, v_out.rgb + 3 * pixels * index, grads.background + 3 * index);
    }
}

DejaVuRasterWork work_of(const State& state) {
    DejaVuRasterWork work = {};
    for (const Image& image : state.images) {
        for (int i = 0; i < image.source.count; ++i) work.gaussians += image.rects[i].x0 < image.rects[i].x1;
        for (int tile = 0; tile < state.tiles(); ++tile)
            for (uint32_t begin = image.tile_begin[tile], e = begin; e < image.tile_begin[tile + 1]; ++e) {
                int blocks = 0;
                for (int b = 0; b < 16; ++b) blocks += (image.block_masks[e] >> b & 1) && e - begin < image.last[16 * image.tile_rank[tile] + static_cast<uint32_t>(b)];
                ++work.entries;
                work.entries_used += blocks != 0;
                work.blocks += blocks;
            }
    }
    return work;
}

}  // namespace
}  // namespace deja_vu

// Returns 0, 1 when memory runs out, or 2 when an input is not finite. `state` and the workspace, of DEJA_VU_WORKSPACE floats for each
// Gaussian of each image, are what the backward pass needs.
DEJA_VU_API int deja_vu_raster_forward(const DejaVuRasterInput* in, const DejaVuRasterOutput* out, float* workspace, void** state) {
    try {
        *state = deja_vu::forward(*in, *out, workspace).release();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    } catch (const deja_vu::NotFinite&) {
        return 2;
    }
}

// Once for each forward pass. v_out: gradients by rgb (required), alpha and depth (null where none); grads may lie in the workspace,
// which has done its work when they are written. Returns 0, or 1 when memory runs out.
DEJA_VU_API int deja_vu_raster_backward(void* state, const DejaVuRasterInput* in, const DejaVuRasterOutput* out,
                                        const DejaVuRasterOutput* v_out, const DejaVuRasterGradients* grads) {
    try {
        deja_vu::backward(*static_cast<deja_vu::State*>(state), *in, *out, *v_out, *grads);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

DEJA_VU_API void deja_vu_raster_work(const void* state, DejaVuRasterWork* work) { *work = deja_vu::work_of(*static_cast<const deja_vu::State*>(state)); }

DEJA_VU_API void deja_vu_raster_free(void* state) { delete static_cast<deja_vu::State*>(state); }
