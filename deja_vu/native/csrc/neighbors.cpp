// The nearest of a set of points to each query, through a grid of cells; exact within the radius.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <vector>

#include "api.h"
#include "kernels.h"

namespace deja_vu {
namespace {

constexpr int kBlock = 2048;   // queries a work item
constexpr int kMaxCells = 96;  // cells a side
constexpr int kMaxNearest = 16;

struct Grid {
    float low[3], inverse[3], cell[3];
    int size[3];
    std::vector<int> begin, points;  // points of cell c: points[begin[c]] .. points[begin[c + 1]]
    std::vector<float> sorted;       // their coordinates, in the same order

    int clamp_cell(float x, int axis) const {
        return std::clamp(static_cast<int>(std::floor((x - low[axis]) * inverse[axis])), 0, size[axis] - 1);
    }
    int index(int x, int y, int z) const { return (x * size[1] + y) * size[2] + z; }
};

Grid build(const DejaVuNeighbors& in) {
    Grid grid;
    float high[3];
    for (int axis = 0; axis < 3; ++axis) {
        grid.low[axis] = std::numeric_limits<float>::max();
        high[axis] = std::numeric_limits<float>::lowest();
    }
    for (int p = 0; p < in.point_count; ++p)
        for (int axis = 0; axis < 3; ++axis) {
            grid.low[axis] = std::min(grid.low[axis], in.points[3 * p + axis]);
            high[axis] = std::max(high[axis], in.points[3 * p + axis]);
        }
    const float e[3] = {high[0] - grid.low[0], high[1] - grid.low[1], high[2] - grid.low[2]};
    // Points on a surface: about four of them in each cell that it passes through.
    const float area = 1.6f * (e[0] * e[1] + e[1] * e[2] + e[2] * e[0]);
    const float side = std::max(2 * std::sqrt(area / static_cast<float>(std::max(in.point_count, 1))), 1e-6f);
    for (int axis = 0; axis < 3; ++axis) {
        grid.size[axis] = std::clamp(static_cast<int>(std::ceil(e[axis] / side)), 1, kMaxCells);
        grid.cell[axis] = std::max(e[axis] / static_cast<float>(grid.size[axis]), 1e-9f);
        grid.inverse[axis] = 1 / grid.cell[axis];
    }
    const size_t cells = static_cast<size_t>(grid.size[0]) * static_cast<size_t>(grid.size[1]) * static_cast<size_t>(grid.size[2]);
    std::vector<int> owner(static_cast<size_t>(in.point_count));
    grid.begin.assign(cells + 1, 0);
    for (int p = 0; p < in.point_count; ++p) {
        const float* x = in.points + 3 * p;
        owner[static_cast<size_t>(p)] = grid.index(grid.clamp_cell(x[0], 0), grid.clamp_cell(x[1], 1), grid.clamp_cell(x[2], 2));
        ++grid.begin[static_cast<size_t>(owner[static_cast<size_t>(p)]) + 1];
    }
    for (size_t cell = 0; cell < cells; ++cell) grid.begin[cell + 1] += grid.begin[cell];
    std::vector<int> next(grid.begin.begin(), grid.begin.end() - 1);
    grid.points.resize(owner.size());
    grid.sorted.resize(3 * owner.size());
    for (int p = 0; p < in.point_count; ++p) {
        const int at = next[static_cast<size_t>(owner[static_cast<size_t>(p)])]++;
        grid.points[static_cast<size_t>(at)] = p;
        std::copy_n(in.points + 3 * p, 3, grid.sorted.data() + 3 * at);
    }
    return grid;
}

struct Nearest {
    int count, found = 0, index[kMaxNearest];
    float square[kMaxNearest];

    float worst(float limit) const { return found < count ? limit : square[count - 1]; }
    void offer(float d, int p) {
        int at = found < count ? found++ : count - 1;
        for (; at > 0 && square[at - 1] > d; --at) {
            square[at] = square[at - 1];
            index[at] = index[at - 1];
        }
        square[at] = d;
        index[at] = p;
    }
};

// Square of the distance from x to the interval that cells [a, b] of an axis cover.
inline float gap(const Grid& grid, int axis, float x, int a, int b) {
    const float under = grid.low[axis] + static_cast<float>(a) * grid.cell[axis] - x;
    const float over = x - (grid.low[axis] + static_cast<float>(b + 1) * grid.cell[axis]);
    const float outside = std::max({under, over, 0.0f});
    return outside * outside;
}

void scan_row(const Grid& grid, const float* q, int x, int y, int z0, int z1, float limit, Nearest& nearest) {
    const int end = grid.begin[static_cast<size_t>(grid.index(x, y, z1)) + 1];
    for (int at = grid.begin[static_cast<size_t>(grid.index(x, y, z0))]; at < end; ++at) {
        const float* p = grid.sorted.data() + 3 * at;
        const float a = p[0] - q[0], b = p[1] - q[1], c = p[2] - q[2], d = a * a + b * b + c * c;
        if (d < nearest.worst(limit)) nearest.offer(d, grid.points[static_cast<size_t>(at)]);
    }
}

// Cells in growing cubes around the query's own, until nothing nearer can lie outside.
void search(const Grid& grid, const float* q, float limit, Nearest& nearest) {
    for (int axis = 0; axis < 3; ++axis)
        if (!(std::abs(q[axis]) < 1e6f)) return;  // also where it is no number
    if (gap(grid, 0, q[0], 0, grid.size[0] - 1) + gap(grid, 1, q[1], 0, grid.size[1] - 1) + gap(grid, 2, q[2], 0, grid.size[2] - 1) >= limit) return;
    const int cx = grid.clamp_cell(q[0], 0), cy = grid.clamp_cell(q[1], 1), cz = grid.clamp_cell(q[2], 2);
    const int last = std::max({grid.size[0], grid.size[1], grid.size[2]});
    for (int ring = 0; ring < last; ++ring) {
        const int x0 = std::max(cx - ring, 0), x1 = std::min(cx + ring, grid.size[0] - 1), y0 = std::max(cy - ring, 0), y1 = std::min(cy + ring, grid.size[1] - 1);
        const int z0 = std::max(cz - ring, 0), z1 = std::min(cz + ring, grid.size[2] - 1);
        for (int x = x0; x <= x1; ++x) {
            const float gx = gap(grid, 0, q[0], x, x);
            if (gx >= nearest.worst(limit)) continue;
            for (int y = y0; y <= y1; ++y) {
                if (gx + gap(grid, 1, q[1], y, y) >= nearest.worst(limit)) continue;
                if (std::abs(x - cx) == ring || std::abs(y - cy) == ring) {
                    scan_row(grid, q, x, y, z0, z1, limit, nearest);
                } else {
                    if (cz - ring >= 0) scan_row(grid, q, x, y, cz - ring, cz - ring, limit, nearest);
                    if (ring > 0 && cz + ring < grid.size[2]) scan_row(grid, q, x, y, cz + ring, cz + ring, limit, nearest);
                }
            }
        }
        // What lies beyond this cube is at least as far as its nearest open side.
        float open = std::numeric_limits<float>::max();
        const int low[3] = {x0, y0, z0}, high[3] = {x1, y1, z1};
        for (int axis = 0; axis < 3; ++axis) {
            if (low[axis] > 0) open = std::min(open, std::max(q[axis] - (grid.low[axis] + static_cast<float>(low[axis]) * grid.cell[axis]), 0.0f));
            if (high[axis] < grid.size[axis] - 1)
                open = std::min(open, std::max(grid.low[axis] + static_cast<float>(high[axis] + 1) * grid.cell[axis] - q[axis], 0.0f));
        }
        if (open * open >= nearest.worst(limit)) return;
    }
}

void find(const DejaVuNeighbors& in) {
    const Grid grid = build(in);
    const float limit = in.radius * in.radius;
    const auto body = [&](int item, int) {
        const int end = std::min((item + 1) * kBlock, in.query_count);
        for (int query = item * kBlock; query < end; ++query) {
            Nearest nearest{};
            nearest.count = in.nearest;
            search(grid, in.queries + 3 * static_cast<size_t>(query), limit, nearest);
            const size_t base = static_cast<size_t>(query) * static_cast<size_t>(in.nearest);
            for (int k = 0; k < in.nearest; ++k) {
                in.index[base + static_cast<size_t>(k)] = k < nearest.found ? nearest.index[k] : -1;
                in.square[base + static_cast<size_t>(k)] = k < nearest.found ? nearest.square[k] : std::numeric_limits<float>::infinity();
            }
        }
    };
    using Body = decltype(body);
    parallel_for((in.query_count + kBlock - 1) / kBlock, in.threads,
                 [](void* context, int item, int worker) { (*static_cast<Body*>(context))(item, worker); },
                 const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace
}  // namespace deja_vu

// Returns 0, 1 when memory runs out, 2 when more neighbors are asked for than the search holds.
DEJA_VU_API int deja_vu_neighbors(const DejaVuNeighbors* in) {
    if (in->nearest > deja_vu::kMaxNearest) return 2;
    try {
        deja_vu::find(*in);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
