// A video frame to display sRGB, in strips of rows.
#include <new>
#include <vector>

#include "api.h"
#include "kernels.h"

namespace deja_vu {
namespace {

constexpr int kStrip = 16;

void run_strips(const DejaVuColor& in) {
    const size_t scratch = 5 * (static_cast<size_t>(in.width) + 320);
    const int threads = in.threads > 1 ? in.threads : 1;
    std::vector<float> memory(scratch * static_cast<size_t>(threads));
    const auto body = [&](int item, int worker) {
        const int begin = item * kStrip, end = begin + kStrip < in.height ? begin + kStrip : in.height;
        kernels().color_rows(in, begin, end, memory.data() + scratch * static_cast<size_t>(worker));
    };
    using Body = decltype(body);
    parallel_for((in.height + kStrip - 1) / kStrip, threads,
                 [](void* context, int item, int worker) { (*static_cast<Body*>(context))(item, worker); },
                 const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace
}  // namespace deja_vu

DEJA_VU_API int deja_vu_color(const DejaVuColor* in) {
    try {
        deja_vu::run_strips(*in);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
