precision highp float;
precision highp int;
precision highp sampler2D;
precision highp sampler2DArray;
#define WIDTH_BITS 9
ivec2 cell(int i) { return ivec2(i & ((1 << WIDTH_BITS) - 1), i >> WIDTH_BITS); }
// Record of this fragment; a macro, as vertex shaders have no gl_FragCoord.
#define ours() (int(gl_FragCoord.x) + (int(gl_FragCoord.y) << WIDTH_BITS))
