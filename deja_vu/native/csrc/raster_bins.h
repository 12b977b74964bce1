// One forward pass's memory, and how Gaussians get to tiles: sorted by depth, then handed out front to back.
#pragma once
#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <utility>
#include <vector>

#include "api.h"
#include "kernels.h"

namespace deja_vu {

template <class T>
class Buffer {
  public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept : memory(std::exchange(other.memory, nullptr)), bytes(other.bytes) {}
    ~Buffer() { release(); }
    void allocate(size_t count) {
        release();
        bytes = count * sizeof(T);
        memory = static_cast<T*>(take_memory(bytes));
    }
    void release() {
        if (memory) give_memory(std::exchange(memory, nullptr), bytes);
    }
    T* get() const { return memory; }
    T& operator[](size_t i) const { return memory[i]; }

  private:
    T* memory = nullptr;
    size_t bytes = 0;
};

struct Image {
    RasterSource source;
    const float* background;
    Splat* splats;                // in the caller's workspace, like `rects`
    TileRect* rects;
    Buffer<uint32_t> slot_begin;  // [count + 1]
    Buffer<uint32_t> entries;     // splats by tile
    Buffer<uint16_t> block_masks;
    Buffer<uint32_t> tile_begin;  // [tiles + 1]
    Buffer<uint32_t> tile_rank;   // [tiles] number of tiles before it that have entries
    Buffer<uint32_t> last;        // [rank, 16]
    Buffer<float> transmittance;  // [rank, 256]
    std::vector<uint64_t> order;  // Gaussians front to back in the lower half; forward only, like `cursor`
    std::vector<uint32_t> cursor;
    Buffer<float> slots;          // backward only
    bool has_entries(int tile) const { return tile_begin[static_cast<size_t>(tile)] < tile_begin[static_cast<size_t>(tile) + 1]; }
};

struct State {
    std::vector<Image> images;
    int tiles_x, tiles_y, ranges;
    int tiles() const { return tiles_x * tiles_y; }
};

template <class Body>
void run_parallel(int items, int threads, const Body& body) {
    parallel_for(items, threads, [](void* context, int item, int worker) { (*static_cast<const Body*>(context))(item, worker); },
                 const_cast<Body*>(&body));
}

// Indices of the visible Gaussians by depth, ties by index: radix sort of the depths' bits, which rise with positive depths.
inline std::vector<uint64_t> sort_by_depth(const Splat* splats, const TileRect* rects, int count) {
    std::vector<uint64_t> items;
    items.reserve(static_cast<size_t>(count));
    uint32_t nearest = std::numeric_limits<uint32_t>::max(), furthest = 0;
    for (int i = 0; i < count; ++i)
        if (rects[i].x0 < rects[i].x1) {
            uint32_t key;
            std::memcpy(&key, &splats[i].depth, sizeof(key));
            nearest = std::min(nearest, key);
            furthest = std::max(furthest, key);
            items.push_back(static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(i));
        }
    if (items.empty()) return items;
    constexpr int bits = 11, buckets = 1 << bits;
    std::vector<uint64_t> other(items.size());
    for (int shift = 0; (furthest - nearest) >> shift; shift += bits) {
        uint32_t begin[buckets + 1] = {};
        const auto digit = [&](uint64_t item) { return ((static_cast<uint32_t>(item >> 32) - nearest) >> shift) & (buckets - 1); };
        for (const uint64_t item : items) ++begin[digit(item) + 1];
        for (int b = 0; b < buckets; ++b) begin[b + 1] += begin[b];
        for (const uint64_t item : items) other[begin[digit(item)]++] = item;
        items.swap(other);
        if (shift + bits >= 32) break;
    }
    return items;
}

// Where each Gaussian's slots and each tile's entries begin. A rectangle is counted at its four corners; sums along both axes do the rest.
inline void count_entries(Image& image, const State& state) {
    const int count = image.source.count, tiles = state.tiles(), stride = state.tiles_x + 1;
    image.slot_begin.allocate(static_cast<size_t>(count) + 1);
    image.tile_begin.allocate(static_cast<size_t>(tiles) + 1);
    image.tile_rank.allocate(static_cast<size_t>(tiles));
    std::vector<uint32_t> corners(static_cast<size_t>(stride) * static_cast<size_t>(state.tiles_y + 1), 0);
    size_t total = 0, slots = 0;
    for (int i = 0; i < count; ++i) {
        const TileRect r = image.rects[i];
        image.slot_begin[i] = static_cast<uint32_t>(slots);
        total += static_cast<size_t>(r.x1 - r.x0) * static_cast<size_t>(r.y1 - r.y0);
        slots += static_cast<size_t>(patches_of(r.x0, r.x1)) * static_cast<size_t>(patches_of(r.y0, r.y1));
        ++corners[static_cast<size_t>(r.y0 * stride + r.x0)];
        --corners[static_cast<size_t>(r.y0 * stride + r.x1)];
        --corners[static_cast<size_t>(r.y1 * stride + r.x0)];
        ++corners[static_cast<size_t>(r.y1 * stride + r.x1)];
    }
    if (total > std::numeric_limits<uint32_t>::max()) throw std::bad_alloc();
    image.slot_begin[count] = static_cast<uint32_t>(slots);
    std::vector<uint32_t> above(static_cast<size_t>(stride), 0);
    uint32_t begin = 0, rank = 0;
    for (int y = 0, t = 0; y < state.tiles_y; ++y) {
        uint32_t left = 0;
        for (int x = 0; x < state.tiles_x; ++x, ++t) {
            left += corners[static_cast<size_t>(y * stride + x)];
            above[static_cast<size_t>(x)] += left;
            image.tile_begin[t] = begin;
            image.tile_rank[t] = rank;
            begin += above[static_cast<size_t>(x)];
            rank += above[static_cast<size_t>(x)] != 0;
        }
    }
    image.tile_begin[tiles] = begin;
    image.cursor.assign(image.tile_begin.get(), image.tile_begin.get() + tiles);
    image.entries.allocate(total);
    image.block_masks.allocate(total + 16);  // read sixteen at a time
    image.last.allocate(static_cast<size_t>(rank) * 16);
    image.transmittance.allocate(static_cast<size_t>(rank) * kTilePixels);
}

// Hand out the Gaussians to the tile rows of one of `bands` bands that hold about as many entries each. The result is the same
// whatever the bands: every entry's place is given by the rectangles alone.
inline void fill_band(const Image& image, const State& state, int band, int bands, uint32_t* cursor) {
    const auto row_of = [&](int b) {
        const uint64_t entries = image.tile_begin[state.tiles()], before = entries * static_cast<uint64_t>(b) / static_cast<uint64_t>(bands);
        int row = b == bands ? state.tiles_y : 0;
        while (row < state.tiles_y && image.tile_begin[row * state.tiles_x] < before) ++row;
        return row;
    };
    const int first = row_of(band), stop = row_of(band + 1);
    if (first == stop) return;
    for (const uint64_t item : image.order) {
        const uint32_t i = static_cast<uint32_t>(item);
        const TileRect r = image.rects[i];
        for (int y = std::max<int>(r.y0, first), end = std::min<int>(r.y1, stop); y < end; ++y)
            for (int x = r.x0; x < r.x1; ++x) image.entries[cursor[y * state.tiles_x + x]++] = i;
    }
}

// Runs body on every item; memory that ran out in a thread is thrown here.
template <class Body>
void run_guarded(int items, int threads, const Body& body) {
    bool failed = false;
    run_parallel(items, threads, [&](int item, int) {
        try {
            body(item);
        } catch (const std::bad_alloc&) {
            __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
        }
    });
    if (failed) throw std::bad_alloc();
}

inline void fill_tiles(State& state, int threads) {
    const int images = static_cast<int>(state.images.size()), bands = std::max(1, std::min(threads / std::max(images, 1), state.tiles_y));
    run_guarded(2 * images, threads, [&](int item) {
        Image& image = state.images[static_cast<size_t>(item / 2)];
        if (item % 2)
            count_entries(image, state);
        else
            image.order = sort_by_depth(image.splats, image.rects, image.source.count);
    });
    run_guarded(bands * images, threads, [&](int item) {
        Image& image = state.images[static_cast<size_t>(item / bands)];
        fill_band(image, state, item % bands, bands, image.cursor.data());
    });
    for (Image& image : state.images) std::vector<uint64_t>().swap(image.order), std::vector<uint32_t>().swap(image.cursor);
}

}  // namespace deja_vu
