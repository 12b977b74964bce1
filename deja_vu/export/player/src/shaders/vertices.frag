// Posed position of every vertex: morphs, then linear blend skinning.
uniform sampler2D restPositions, morphs, morphWeights, skin[3];
uniform mat4 parts[12];
uniform int count, morphCount;
layout(location = 0) out vec4 posed;
void main() {
    int v = ours();
    if (v >= count) discard;
    vec3 rest = texelFetch(restPositions, cell(v), 0).xyz;
    for (int e = 0; e < morphCount; ++e) {
        float weight = texelFetch(morphWeights, ivec2(e, 0), 0).x;
        if (weight != 0.0) rest += weight * texelFetch(morphs, cell(e * count + v), 0).xyz;
    }
    vec4 a = texelFetch(skin[0], cell(v), 0), b = texelFetch(skin[1], cell(v), 0), c = texelFetch(skin[2], cell(v), 0);
    mat4 blended = a.x * parts[0] + a.y * parts[1] + a.z * parts[2] + a.w * parts[3];
    blended += b.x * parts[4] + b.y * parts[5] + b.z * parts[6] + b.w * parts[7];
    blended += c.x * parts[8] + c.y * parts[9] + c.z * parts[10] + c.w * parts[11];
    posed = vec4((blended * vec4(rest, 1.0)).xyz, 1.0);
}
