// The library's C interface; deja_vu/core/native.py mirrors the structs.
#pragma once
#include <stdint.h>

#define DEJA_VU_API extern "C" __attribute__((visibility("default")))

extern "C" {

// Pointers to float32; a step is the distance in floats between two images, 0 where they share the data.
struct DejaVuRasterInput {
    const float *means, *quats, *scales, *opacities, *colors, *camera_from_world, *intrinsics, *background;
    int64_t means_step, quats_step, scales_step, opacities_step, colors_step, camera_step, intrinsics_step, background_step;
    float color_offset, color_scale;
    int32_t images, count, width, height, threads;
};

struct DejaVuRasterOutput {
    float *rgb, *alpha, *depth;
};

// Contiguous, one row of data an image. camera_from_world is [images, 12]: rotation, then translation.
struct DejaVuRasterGradients {
    float *means, *quats, *scales, *opacities, *colors, *camera_from_world, *background;
};

struct DejaVuSsim {
    const float *a, *b;
    float *map, *d_mean, *d_square, *d_product;
    const float* v_map;
    float* v_a;
    int32_t images, width, height, channels, threads;
};

struct DejaVuMesh {
    const float *vertices, *camera_from_world, *intrinsics;
    const int32_t* faces;
    int32_t* face_id;
    float *bary, *depth;
    int64_t camera_step, intrinsics_step;
    int32_t images, vertex_count, face_count, width, height, threads;
};
}
