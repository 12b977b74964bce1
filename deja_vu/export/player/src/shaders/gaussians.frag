// Every texel's Gaussian in the world: center, opacity, three scaled axes, color.
uniform sampler2D positions, normals, corners, baryGradient, taps, tapWeights, blend[4];
uniform sampler2DArray raw;
uniform mat3 headRotation;
uniform bool headAxes, blended;
uniform int count;
layout(location = 0) out vec4 centerOpacity;
layout(location = 1) out vec4 axis0Red;
layout(location = 2) out vec4 axis1Green;
layout(location = 3) out vec4 axis2Blue;

vec4 map(int layer, int m) {
    vec4 value = texelFetch(raw, ivec3(cell(m), layer), 0);
    if (!blended) return value;
    ivec4 at = ivec4(texelFetch(taps, cell(m), 0));
    vec4 weights = texelFetch(tapWeights, cell(m), 0);
    for (int t = 0; t < 4; ++t) {
        ivec2 tap = cell(at[t]);
        vec4 part = layer == 0 ? texelFetch(blend[0], tap, 0) : layer == 1 ? texelFetch(blend[1], tap, 0)
                  : layer == 2 ? texelFetch(blend[2], tap, 0) : texelFetch(blend[3], tap, 0);
        value += weights[t] * part;
    }
    return value;
}

void main() {
    int m = ours();
    if (m >= count) discard;
    // Channels: position 3, log scale 3, rotation 3, opacity logit, color 3.
    vec4 c0 = map(0, m), c1 = map(1, m), c2 = map(2, m), c3 = map(3, m);
    vec3 offset = c0.xyz, scale = exp(vec3(c0.w, c1.xy));
    vec4 q = normalize(vec4(1.0, c1.zw, c2.x));
    float opacity = 1.0 / (1.0 + exp(-c2.y));
    vec3 color = max(0.5 + 0.28209479177387814 * vec3(c2.zw, c3.x), 0.0);

    vec4 corner = texelFetch(corners, cell(m), 0), bg = texelFetch(baryGradient, cell(m), 0);
    ivec2 a = cell(int(corner.x)), b = cell(int(corner.y)), c = cell(int(corner.z));
    vec3 bary = vec3(bg.xy, 1.0 - bg.x - bg.y);
    vec3 p0 = texelFetch(positions, a, 0).xyz, p1 = texelFetch(positions, b, 0).xyz, p2 = texelFetch(positions, c, 0).xyz;
    vec3 point = bary.x * p0 + bary.y * p1 + bary.z * p2;
    vec3 normal = normalize(bary.x * texelFetch(normals, a, 0).xyz + bary.y * texelFetch(normals, b, 0).xyz + bary.z * texelFetch(normals, c, 0).xyz);
    vec3 along = bg.z * (p1 - p0) + bg.w * (p2 - p0);
    vec3 tangent = normalize(along - dot(along, normal) * normal);
    mat3 frame = headAxes ? headRotation : mat3(tangent, cross(normal, tangent), normal);
    float stretch = clamp(sqrt(length(cross(p1 - p0, p2 - p0))) / corner.w, 0.5, 2.0);

    float w = q.x, x = q.y, y = q.z, z = q.w;
    mat3 turn = mat3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
                     2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
                     2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
    mat3 axes = frame * turn;
    centerOpacity = vec4(point + frame * offset, opacity);
    axis0Red = vec4(axes[0] * (scale.x * stretch), color.r);
    axis1Green = vec4(axes[1] * (scale.y * stretch), color.g);
    axis2Blue = vec4(axes[2] * scale.z, color.b);
}
