// The library's C interface; deja_vu/native/abi.py mirrors the structs; fields keep names and order.
#pragma once
#include <stdint.h>

#define DEJA_VU_API extern "C" __attribute__((visibility("default")))
#define DEJA_VU_WORKSPACE 14  // floats that projected Gaussians take: as many as their gradients at degree 0, which may take their place

extern "C" {

// Pointers to float32; a step is the distance in floats between two images, 0 where they share the data.
struct DejaVuRasterInput {
    const float *means, *quats, *scales, *opacities, *sh, *camera_from_world, *intrinsics, *background;
    int64_t means_step, quats_step, scales_step, opacities_step, sh_step, camera_from_world_step, intrinsics_step, background_step;
    int32_t images, count, coefficients, width, height, threads;
};

struct DejaVuRasterOutput {
    float *rgb, *alpha, *depth;
};

// Contiguous, one row of data an image, of the same shapes as the inputs. background may be null.
struct DejaVuRasterGradients {
    float *means, *quats, *scales, *opacities, *sh, *camera_from_world, *background;
};

// What a forward pass did, for measuring: Gaussians that some tile drew, (Gaussian, tile) pairs handed out, those of them that
// touched a pixel block in time, and (Gaussian, block) pairs composited.
struct DejaVuRasterWork {
    int64_t gaussians, entries, entries_used, blocks;
};

struct DejaVuSsim {
    const float *a, *b;
    float *map, *d_mean, *d_square, *d_product;
    const float* v_map;
    float* v_a;
    int32_t images, width, height, channels, threads;
};

// Pictures beside their targets, [images, pixels, 3] and [images, pixels]. Target: image over background by cover. Sums of every image:
// color_weight times the Huber cost of the color, weight times the difference of coverage, weight times (1 - map) / 2.
struct DejaVuPicture {
    const float *rgb, *alpha, *image, *cover, *color_weight, *weight, *background;  // alpha may be null in the forward pass
    float* target;                                                                  // null when not needed; read by the backward pass
    double* sums;                                                                   // [images, 3]
    const float* map;
    float *v_map, *v_rgb, *v_alpha;                       // v_rgb is added to
    float delta, color_scale, coverage_scale, similarity_scale;  // upstream gradients over what the sums are divided by
    int32_t images, pixels, threads;
};

struct DejaVuMesh {
    const float *vertices, *camera_from_world, *intrinsics;
    const int32_t* faces;
    int32_t* face_id;
    float *bary, *depth;
    int64_t camera_from_world_step, intrinsics_step;
    int32_t images, vertex_count, face_count, width, height, threads;
};

// The `nearest` of the points within the radius of each query, nearest first; index -1 and an infinite square where there are fewer.
struct DejaVuNeighbors {
    const float *points, *queries;  // [point_count, 3], [query_count, 3]
    int32_t* index;                 // [query_count, nearest]
    float* square;                  // [query_count, nearest]
    float radius;
    int32_t point_count, query_count, nearest, threads;
};

// A frame of video to 8-bit display sRGB. A signal is scale * stored + offset; red = luma + red_v v and so on. Its light stands in `linear`
// at signal_scale * signal; it is multiplied by gain * luminance^gain_power (gain 0: not), then by the matrix. What is shown stands in
// `display` at display_scale * its root. Both tables have 4096 entries, display three bytes more.
struct DejaVuColor {
    const void *luma, *blue, *red;                   // bytes, or 16-bit words where `wide`
    const float *linear, *matrix, *weights;          // matrix [9] by rows, weights [3] of the luminance
    const uint8_t* display;
    uint8_t* rgb;                                    // [height, width, 3]
    int64_t luma_step, chroma_step;                  // bytes between rows
    float luma_scale, luma_offset, chroma_scale, chroma_offset, red_v, green_u, green_v, blue_u;
    float signal_scale, gain, gain_power, display_scale;
    int32_t width, height, half_columns, half_rows, wide, threads;
};

// A list by owner: entries [begin[i], begin[i + 1]) of the arrays beside it belong to owner i.
struct DejaVuAttach {
    const float* vertices;                              // [images, vertex_count, 3]
    const int32_t *faces, *texel_faces;                 // [face_count, 3], [count]
    const float *bary, *face_gradients, *rest_stretch;  // [count, 3], [face_count, 2], [count]
    const float* axes;                                  // [images, 9] frames of all texels; null: the surface's tangent frames
    const int32_t *vertex_face_begin, *vertex_faces;
    const float *base, *gains, *rectification;          // [count, 13], [13], [count, 13]
    const float *weights, *blendmaps;                   // [images, maps], [maps, coarse_count, 13]
    const int32_t* taps;                                // [count, 4] into the coarse texels; null where they are the texels
    const float* tap_weights;                           // [count, 4]
    float *means, *quats, *scales, *opacities, *colors; // [images, count, ..]
    float* frames;                                      // [images, count, 4] for the backward pass; null when not needed
    // Backward only; a null v_base, v_rectification, v_weights, v_blendmaps or v_vertices is not needed.
    const float *v_means, *v_quats, *v_scales, *v_opacities, *v_colors;
    const int32_t *coarse_begin, *coarse_texels, *vertex_texel_begin, *vertex_texels;
    const float *coarse_weights, *vertex_weights;
    float *v_base, *v_rectification, *v_weights, *v_blendmaps, *v_vertices;
    int32_t images, vertex_count, face_count, count, coarse_count, maps, threads;
};
}
