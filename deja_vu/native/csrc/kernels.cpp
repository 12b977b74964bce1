// Compiled once for each instruction set; the driver picks a table at load time.
#include "attach.h"
#include "color.h"
#include "kernels.h"
#include "picture.h"
#include "raster_gradient.h"
#include "raster_project.h"
#include "raster_tile.h"
#include "ssim.h"

#define DEJA_VU_JOIN2(a, b) a##b
#define DEJA_VU_JOIN(a, b) DEJA_VU_JOIN2(a, b)
#define DEJA_VU_TEXT2(a) #a
#define DEJA_VU_TEXT(a) DEJA_VU_TEXT2(a)

namespace deja_vu {

extern const Kernels DEJA_VU_JOIN(kernels_, DEJA_VU_VARIANT);
const Kernels DEJA_VU_JOIN(kernels_, DEJA_VU_VARIANT) = {
    DEJA_VU_TEXT(DEJA_VU_VARIANT),
    DEJA_VU_VARIANT::project,
    DEJA_VU_VARIANT::tile_forward,
    DEJA_VU_VARIANT::tile_backward,
    DEJA_VU_VARIANT::project_backward,
    DEJA_VU_VARIANT::ssim_forward,
    DEJA_VU_VARIANT::ssim_backward,
    DEJA_VU_VARIANT::picture_forward,
    DEJA_VU_VARIANT::picture_similarity,
    DEJA_VU_VARIANT::picture_spread,
    DEJA_VU_VARIANT::picture_backward,
    DEJA_VU_VARIANT::color_rows,
    DEJA_VU_VARIANT::attach_blend,
    DEJA_VU_VARIANT::attach_texels,
    DEJA_VU_VARIANT::attach_texels_backward,
    DEJA_VU_VARIANT::attach_blend_backward,
};

}  // namespace deja_vu
