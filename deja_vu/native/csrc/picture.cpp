// What pictures cost beside their targets, in strips of pixels whose sums are added up in order.
#include <algorithm>
#include <new>
#include <vector>

#include "api.h"
#include "kernels.h"

namespace deja_vu {
namespace {

constexpr size_t kStripPixels = 8192;
constexpr size_t kSums = 3;

// Runs a pass over every strip; adds up the sums from `first` to before `last` by image.
int run_strips(const DejaVuPicture& in, PicturePass pass, size_t first, size_t last) {
    const size_t pixels = static_cast<size_t>(in.pixels), strips = (pixels + kStripPixels - 1) / kStripPixels;
    const size_t images = static_cast<size_t>(in.images);
    try {
        std::vector<double> parts(images * strips * kSums);
        const auto body = [&](int item, int) {
            const size_t image = static_cast<size_t>(item) / strips, begin = static_cast<size_t>(item) % strips * kStripPixels;
            pass(in, image * pixels + begin, image * pixels + std::min(begin + kStripPixels, pixels), &parts[static_cast<size_t>(item) * kSums]);
        };
        using Body = decltype(body);
        parallel_for(static_cast<int>(images * strips), in.threads,
                     [](void* context, int item, int worker) { (*static_cast<Body*>(context))(item, worker); },
                     const_cast<void*>(static_cast<const void*>(&body)));
        for (size_t image = 0; image < images; ++image)
            for (size_t sum = first; sum < last; ++sum) {
                double total = 0;
                for (size_t strip = 0; strip < strips; ++strip) total += parts[(image * strips + strip) * kSums + sum];
                in.sums[image * kSums + sum] = total;
            }
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace
}  // namespace deja_vu

DEJA_VU_API int deja_vu_picture_forward(const DejaVuPicture* in) { return deja_vu::run_strips(*in, deja_vu::kernels().picture_forward, 0, 2); }
DEJA_VU_API int deja_vu_picture_similarity(const DejaVuPicture* in) { return deja_vu::run_strips(*in, deja_vu::kernels().picture_similarity, 2, 3); }
DEJA_VU_API int deja_vu_picture_spread(const DejaVuPicture* in) { return deja_vu::run_strips(*in, deja_vu::kernels().picture_spread, 0, 0); }
DEJA_VU_API int deja_vu_picture_backward(const DejaVuPicture* in) { return deja_vu::run_strips(*in, deja_vu::kernels().picture_backward, 0, 0); }
