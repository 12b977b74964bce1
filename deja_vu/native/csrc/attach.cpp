// Drives the attach kernels: per-face and per-vertex records of the posed surface, the blend, the texels; and the same backwards.
// Every output has one owner and every sum a fixed order, so results do not depend on the number of threads.
#include <algorithm>
#include <cmath>
#include <new>
#include <type_traits>

#include "api.h"
#include "kernels.h"

namespace deja_vu {
namespace {

constexpr int kFaces = 2048, kVertices = 1024, kTexels = 1024;  // a work item
constexpr int kRecord = kAttachRow / 2;

class Floats {
  public:
    explicit Floats(size_t count) : bytes(count * sizeof(float)), memory(count ? static_cast<float*>(take_memory(bytes)) : nullptr) {}
    Floats(const Floats&) = delete;
    Floats& operator=(const Floats&) = delete;
    ~Floats() {
        if (memory) give_memory(memory, bytes);
    }
    float* get() const { return memory; }

  private:
    size_t bytes;
    float* memory;
};

size_t product(int a, int b, int c) { return static_cast<size_t>(a) * static_cast<size_t>(b) * static_cast<size_t>(c); }
int items_of(int count, int size) { return (count + size - 1) / size; }

template <class Body>
void run(int items, int threads, const Body& body) {
    parallel_for(items, threads, [](void* context, int item, int worker) { (*static_cast<const Body*>(context))(item, worker); },
                 const_cast<void*>(static_cast<const void*>(&body)));
}

// Area-weighted normal, square root of the area, direction of growing u.
void face_records(const DejaVuAttach& in, float* out, int image, int begin, int end) {
    const float* vertices = in.vertices + product(image, in.vertex_count, 3);
    for (int face = begin; face < end; ++face) {
        const int32_t* corners = in.faces + 3 * static_cast<size_t>(face);
        const float *a = vertices + 3 * static_cast<size_t>(corners[0]), *b = vertices + 3 * static_cast<size_t>(corners[1]);
        const float *c = vertices + 3 * static_cast<size_t>(corners[2]), *gradient = in.face_gradients + 2 * static_cast<size_t>(face);
        const float e[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]}, f[3] = {c[0] - a[0], c[1] - a[1], c[2] - a[2]};
        const float n[3] = {e[1] * f[2] - e[2] * f[1], e[2] * f[0] - e[0] * f[2], e[0] * f[1] - e[1] * f[0]};
        float* record = out + product(image, in.face_count, kRecord) + static_cast<size_t>(face) * kRecord;
        for (int i = 0; i < 3; ++i) {
            record[i] = n[i];
            record[4 + i] = gradient[0] * e[i] + gradient[1] * f[i];
        }
        record[3] = std::sqrt(std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]));
        record[7] = 0;
    }
}

// Position and unit normal.
void vertex_records(const DejaVuAttach& in, const float* faces, float* out, int image, int begin, int end) {
    const float* normals = faces + product(image, in.face_count, kRecord);
    for (int vertex = begin; vertex < end; ++vertex) {
        float sum[3] = {0, 0, 0};
        for (int32_t entry = in.vertex_face_begin[vertex]; entry < in.vertex_face_begin[vertex + 1]; ++entry) {
            const float* normal = normals + static_cast<size_t>(in.vertex_faces[entry]) * kRecord;
            for (int i = 0; i < 3; ++i) sum[i] += normal[i];
        }
        const float inverse = 1 / std::max(std::sqrt(sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]), 1e-12f);
        const size_t at = product(image, in.vertex_count, 1) + static_cast<size_t>(vertex);
        float* record = out + at * kRecord;
        for (int i = 0; i < 3; ++i) {
            record[i] = in.vertices[3 * at + static_cast<size_t>(i)];
            record[4 + i] = sum[i] * inverse;
        }
        record[3] = record[7] = 0;
    }
}

void vertex_gradients(const DejaVuAttach& in, int image, int begin, int end) {
    const float* v_means = in.v_means + product(image, in.count, 3);
    for (int vertex = begin; vertex < end; ++vertex) {
        float sum[3] = {0, 0, 0};
        for (int32_t entry = in.vertex_texel_begin[vertex]; entry < in.vertex_texel_begin[vertex + 1]; ++entry)
            for (int i = 0; i < 3; ++i) sum[i] += in.vertex_weights[entry] * v_means[3 * static_cast<size_t>(in.vertex_texels[entry]) + static_cast<size_t>(i)];
        std::copy(sum, sum + 3, in.v_vertices + (product(image, in.vertex_count, 1) + static_cast<size_t>(vertex)) * 3);
    }
}

int workers(const DejaVuAttach& in) { return std::max(in.threads, 1); }

void forward(const DejaVuAttach& in) {
    const Kernels& use = kernels();
    const int chunk = in.maps ? in.images * kAttachChunk : 0;
    const Floats faces(product(in.images, in.face_count, kRecord) + kAttachRow), vertices(product(in.images, in.vertex_count, kRecord) + kAttachRow);
    const Floats coarse(in.maps ? product(in.images, in.coarse_count, kAttachRow) : 0), worker(product(workers(in), chunk, 1));
    const AttachScratch scratch = {vertices.get(), faces.get(), coarse.get(), nullptr, nullptr, worker.get(), static_cast<size_t>(chunk)};
    const int face_items = items_of(in.face_count, kFaces), vertex_items = items_of(in.vertex_count, kVertices);
    const int blend_items = in.maps ? items_of(in.coarse_count, kAttachCoarse) : 0, texel_items = items_of(in.count, kTexels);
    run(blend_items + in.images * face_items, in.threads, [&](int item, int owner) {
        if (item < blend_items) {
            use.attach_blend(in, scratch, item * kAttachCoarse, std::min((item + 1) * kAttachCoarse, in.coarse_count), owner);
        } else {
            const int begin = (item - blend_items) % face_items * kFaces;
            face_records(in, faces.get(), (item - blend_items) / face_items, begin, std::min(begin + kFaces, in.face_count));
        }
    });
    run(in.images * vertex_items, in.threads, [&](int item, int) {
        const int begin = item % vertex_items * kVertices;
        vertex_records(in, faces.get(), vertices.get(), item / vertex_items, begin, std::min(begin + kVertices, in.vertex_count));
    });
    run(in.images * texel_items, in.threads, [&](int item, int) {
        const int begin = item % texel_items * kTexels;
        use.attach_texels(in, scratch, item / texel_items, begin, std::min(begin + kTexels, in.count));
    });
}

void backward(const DejaVuAttach& in) {
    const Kernels& use = kernels();
    const bool blends = in.maps && (in.v_blendmaps || in.v_weights);
    const int chunk = blends ? in.images * kAttachChunk : 0, blend_items = blends ? items_of(in.coarse_count, kAttachCoarse) : 0;
    const int vertex_items = in.v_vertices ? items_of(in.vertex_count, kVertices) : 0;
    const Floats fine(blends ? product(in.images, in.count, kAttachRow) : 0), worker(product(workers(in), chunk, 1));
    const Floats partial(product(blend_items, in.images, in.maps));
    const AttachScratch scratch = {nullptr, nullptr, nullptr, fine.get(), partial.get(), worker.get(), static_cast<size_t>(chunk)};
    if (blends || in.v_base || in.v_rectification)
        run(items_of(in.count, kTexels), in.threads, [&](int item, int) {
            use.attach_texels_backward(in, scratch, item * kTexels, std::min((item + 1) * kTexels, in.count));
        });
    run(blend_items + in.images * vertex_items, in.threads, [&](int item, int owner) {
        if (item < blend_items) {
            use.attach_blend_backward(in, scratch, item * kAttachCoarse, std::min((item + 1) * kAttachCoarse, in.coarse_count), owner);
        } else {
            const int begin = (item - blend_items) % vertex_items * kVertices;
            vertex_gradients(in, (item - blend_items) / vertex_items, begin, std::min(begin + kVertices, in.vertex_count));
        }
    });
    if (!blends || !in.v_weights) return;
    const int weights = in.images * in.maps;
    std::fill(in.v_weights, in.v_weights + weights, 0.0f);
    for (int item = 0; item < blend_items; ++item)
        for (int i = 0; i < weights; ++i) in.v_weights[i] += partial.get()[product(item, weights, 1) + static_cast<size_t>(i)];
}

int run_or_fail(const DejaVuAttach& in, void (*pass)(const DejaVuAttach&)) {
    try {
        pass(in);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace
}  // namespace deja_vu

// Both return 0, or 1 when memory runs out.
DEJA_VU_API int deja_vu_attach_forward(const DejaVuAttach* in) { return deja_vu::run_or_fail(*in, deja_vu::forward); }
DEJA_VU_API int deja_vu_attach_backward(const DejaVuAttach* in) { return deja_vu::run_or_fail(*in, deja_vu::backward); }
