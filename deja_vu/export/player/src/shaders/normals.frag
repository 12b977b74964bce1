// Area-weighted normal of every vertex. `fans` lists the other two corners of each triangle around a vertex.
uniform sampler2D positions, fanRanges, fans;
uniform int count;
layout(location = 0) out vec4 normal;
void main() {
    int v = ours();
    if (v >= count) discard;
    vec3 center = texelFetch(positions, cell(v), 0).xyz, sum = vec3(0.0);
    ivec2 range = ivec2(texelFetch(fanRanges, cell(v), 0).xy);
    for (int i = range.x; i < range.y; ++i) {
        ivec2 others = ivec2(texelFetch(fans, cell(i), 0).xy);
        sum += cross(texelFetch(positions, cell(others.x), 0).xyz - center, texelFetch(positions, cell(others.y), 0).xyz - center);
    }
    normal = vec4(sum / max(length(sum), 1e-12), 0.0);
}
