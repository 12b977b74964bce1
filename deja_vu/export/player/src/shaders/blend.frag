// Blend of the blendmaps on their own, coarser texels: sixteen channels, of which thirteen are used.
uniform sampler2DArray blendmaps;
uniform sampler2D blendWeights;
uniform int count, maps;
layout(location = 0) out vec4 c0;
layout(location = 1) out vec4 c1;
layout(location = 2) out vec4 c2;
layout(location = 3) out vec4 c3;
void main() {
    int m = ours();
    if (m >= count) discard;
    c0 = c1 = c2 = c3 = vec4(0.0);
    for (int k = 0; k < maps; ++k) {
        float weight = texelFetch(blendWeights, ivec2(k, 0), 0).x;
        c0 += weight * texelFetch(blendmaps, ivec3(cell(m), 4 * k), 0);
        c1 += weight * texelFetch(blendmaps, ivec3(cell(m), 4 * k + 1), 0);
        c2 += weight * texelFetch(blendmaps, ivec3(cell(m), 4 * k + 2), 0);
        c3 += weight * texelFetch(blendmaps, ivec3(cell(m), 4 * k + 3), 0);
    }
}
