// Structural similarity of batches of images, in strips of rows.
#include <algorithm>
#include <new>
#include <vector>

#include "api.h"
#include "kernels.h"

namespace deja_vu {
namespace {

constexpr int kStrip = 16;

using Pass = void (*)(const SsimJob&, int, int, float*);

void run_strips(const DejaVuSsim& in, Pass pass) {
    const int strips = (in.height + kStrip - 1) / kStrip;
    const size_t scratch = 6 * (static_cast<size_t>(in.width + 20) * static_cast<size_t>(in.channels) + 64);
    std::vector<float> memory(scratch * static_cast<size_t>(std::max(in.threads, 1)));
    const auto body = [&](int item, int worker) {
        const size_t at = static_cast<size_t>(item / strips) * static_cast<size_t>(in.width) * static_cast<size_t>(in.height) * static_cast<size_t>(in.channels);
        const auto offset = [at](auto* p) { return p ? p + at : p; };
        const SsimJob job = {offset(in.a), offset(in.b), offset(in.map), offset(in.d_mean), offset(in.d_square), offset(in.d_product),
                             offset(in.v_map), offset(in.v_a), in.width, in.height, in.channels};
        const int begin = item % strips * kStrip;
        pass(job, begin, std::min(begin + kStrip, in.height), memory.data() + scratch * static_cast<size_t>(worker));
    };
    using Body = decltype(body);
    parallel_for(in.images * strips, in.threads, [](void* context, int item, int worker) { (*static_cast<Body*>(context))(item, worker); },
                 const_cast<void*>(static_cast<const void*>(&body)));
}

int run_or_fail(const DejaVuSsim& in, Pass pass) {
    try {
        run_strips(in, pass);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace
}  // namespace deja_vu

DEJA_VU_API int deja_vu_ssim_forward(const DejaVuSsim* in) { return deja_vu::run_or_fail(*in, deja_vu::kernels().ssim_forward); }
DEJA_VU_API int deja_vu_ssim_backward(const DejaVuSsim* in) { return deja_vu::run_or_fail(*in, deja_vu::kernels().ssim_backward); }
