// What the driver (compiled once) and the kernels (compiled once for each instruction set) share.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct DejaVuAttach;
struct DejaVuColor;
struct DejaVuPicture;

namespace deja_vu {

constexpr int kTile = 16;         // pixels a side; 4x4 blocks of 4x4 pixels
constexpr int kTilePixels = 256;
constexpr int kPatch = 2;         // tiles a side of what one thread differentiates; a Gaussian has one slot in each patch it reaches
constexpr int kSlot = 9;          // floats of a slot: six sums of gradients by the shape, three colors; and the depth if it has a gradient

struct RasterCamera {
    float rotation[9];
    float translation[3];
    float center[3];                     // of the camera, in the world
    float fx, fy, cx, cy;
    float low_x, high_x, low_y, high_y;  // limits of x / z and y / z in the linearization
};

// A projected Gaussian: alpha = 2^(log2_opacity - (a dx^2 + b dx dy + c dy^2)), where dx = pixel - x.
struct Splat {
    float x, y, a, b, c, log2_opacity;
    float slope_x, slope_y;  // -b / 2a and -b / 2c: where the exponent peaks along a line of constant y or x
    float color[3];
    float depth;
};

struct TileRect {
    uint16_t x0, x1, y0, y1;  // half open; empty where the Gaussian is not seen
};

inline int first_patch(int tile) { return tile / kPatch; }
inline int patches_of(int begin, int end) { return begin < end ? (end - 1) / kPatch - begin / kPatch + 1 : 0; }

// One image's Gaussians as the caller holds them.
struct RasterSource {
    const float *means, *quats, *scales, *opacities, *sh;  // sh: [count, coefficients, 3]
    RasterCamera camera;
    int count, coefficients, width, height;
};

struct RasterGradients {
    float *means, *quats, *scales, *opacities, *sh;
};

// Sums over Gaussians of d loss / d rotation (row major), / d translation and / d center of the camera.
constexpr int kCameraSums = 15;

// Everything one tile's forward and backward pass read and write.
struct TileJob {
    const Splat* splats;
    const uint32_t* entries;  // indices of this tile's splats, front to back
    uint16_t* block_masks;    // an entry's blocks that it may touch
    uint32_t* last;           // [16] entries a block looked at before all its pixels were opaque; null in a tile without entries
    float* transmittance;     // [256] in block order; null in a tile without entries
    const float* background;  // [3]
    float *rgb, *alpha, *depth;  // whole image; read by the backward pass
    // Backward only; v_alpha and v_depth may be null.
    const TileRect* rects;
    const uint32_t* slot_begin;
    float* slots;
    const float *v_rgb, *v_alpha, *v_depth;
    int entry_count, x0, y0, width, height;
};

struct SsimJob {
    const float *a, *b;            // [H, W, C] of one image
    float *map;                    // [H, W, C]
    float *d_mean, *d_square, *d_product;  // [H, W, C] derivatives by window means of a, a^2, ab; null when not needed
    const float* v_map;            // backward only
    float* v_a;                    // backward only
    int width, height, channels;
};

constexpr int kAttachChannels = 13, kAttachRow = 16;  // of a raw map; floats of a row padded for whole vectors
constexpr int kAttachCoarse = 128;                    // coarse texels a work item
constexpr int kAttachChunk = kAttachCoarse * kAttachChannels + kAttachRow;

constexpr int kToneTable = 4096;  // entries of the tables from signals to light and from light to sRGB

struct AttachScratch {
    float *vertices, *faces;  // [images, .., 8]
    float *coarse, *fine;     // [images, .., 16] blend times gains; gradient by the upsampled blend
    float *partial;           // [items, images, maps] gradient by the weights
    float *worker;            // [threads, worker_floats]
    size_t worker_floats;
};

// Over pixels [begin, end) of all images; sums of this run.
using PicturePass = void (*)(const DejaVuPicture&, size_t begin, size_t end, double* sums);

struct Kernels {
    const char* name;
    // Returns whether all inputs are finite.
    bool (*project)(const RasterSource&, int begin, int end, Splat*, TileRect*);
    void (*tile_forward)(const TileJob&);
    void (*tile_backward)(const TileJob&);
    // camera_sums: kCameraSums floats of this range.
    void (*project_backward)(const RasterSource&, int begin, int end, const uint32_t* slot_begin, const float* slots, bool with_depth,
                             const RasterGradients&, float* camera_sums);
    void (*ssim_forward)(const SsimJob&, int row_begin, int row_end, float* scratch);
    void (*ssim_backward)(const SsimJob&, int row_begin, int row_end, float* scratch);
    PicturePass picture_forward, picture_similarity, picture_spread, picture_backward;
    void (*color_rows)(const DejaVuColor&, int row_begin, int row_end, float* scratch);
    void (*attach_blend)(const DejaVuAttach&, const AttachScratch&, int begin, int end, int worker);
    void (*attach_texels)(const DejaVuAttach&, const AttachScratch&, int image, int begin, int end);
    void (*attach_texels_backward)(const DejaVuAttach&, const AttachScratch&, int begin, int end);
    void (*attach_blend_backward)(const DejaVuAttach&, const AttachScratch&, int begin, int end, int worker);
};

// Run body(context, item, worker) for every item; worker < threads. Items are claimed in order, results must not depend on it.
void parallel_for(int items, int threads, void (*body)(void*, int, int), void* context);

// Uninitialized memory on a cache line; throws std::bad_alloc. Give it back with the same number of bytes.
void* take_memory(size_t bytes);
void give_memory(void* memory, size_t bytes);

const Kernels& kernels();

}  // namespace deja_vu
